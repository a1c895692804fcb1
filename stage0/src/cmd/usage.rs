//! What clap has to say, in the form of our other errors.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::FAILURE;
use crate::notice::warn;

/// Prints what was asked of clap, or what it has against the command line: in one line, as all our errors.
pub(super) fn report(usage: &clap::Error) -> ExitCode {
    match usage.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Where it cannot be printed, nobody reads it.
            let _ = usage.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = usage.print();
        }
        _ => warn(format_args!("{}, see --help", line_of(&usage.to_string()))),
    }
    ExitCode::from(FAILURE)
}

/// clap's error without the paragraphs on usage.
fn line_of(rendered: &str) -> String {
    let paragraphs = rendered.split("\n\n").filter(|paragraph| {
        let usage = ["Usage:", "For more information", "tip:"];
        !usage
            .iter()
            .any(|start| paragraph.trim_start().starts_with(start))
    });
    let words = paragraphs.flat_map(str::split_whitespace);
    let line = words.collect::<Vec<&str>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{execute, tests::words};
    use super::*;

    #[test]
    fn usage_errors_are_one_line() {
        let error = |line: &str| line_of(&execute(words(line)).unwrap_err().to_string());
        for (line, expected) in [
            ("stage0 frob", "unrecognized subcommand 'frob'"),
            (
                "stage0 list --format x",
                "invalid value 'x' for '--format <FORMAT>' [possible values: text, json]",
            ),
            (
                "stage0 run bb --naem x",
                "unexpected argument '--naem' found",
            ),
            (
                "stage0 rm",
                "the following required arguments were not provided: <UUIDS>...",
            ),
        ] {
            assert_eq!(error(line), expected, "{line}");
        }
    }
}
