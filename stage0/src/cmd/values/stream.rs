//! Where the streams of an app lead, and which of them are attached to.

use anyhow::{Result, bail};
use common::stream::{INPUT_MODES, Mode, OUTPUT_MODES};

/// `--stdin`: where an app's standard input comes from.
pub(crate) fn input(mode: &str) -> Result<String> {
    one_of(mode, &INPUT_MODES)
}

/// `--stdout` and `--stderr`: where an app's output goes.
pub(crate) fn output(mode: &str) -> Result<String> {
    one_of(mode, &OUTPUT_MODES)
}

fn one_of(mode: &str, known: &[Mode]) -> Result<String> {
    let words: Vec<_> = known.iter().map(|mode| mode.as_str()).collect();
    match words.contains(&mode) {
        true => Ok(mode.to_owned()),
        false => bail!("{mode:?}: must be one of {}", words.join(", ")),
    }
}

/// What `attach` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Says what can be attached to.
    List,
    /// Attaches to all of it.
    Auto,
    /// Attaches to these streams, by the names of the entrypoint's options.
    Custom(Vec<&'static str>),
}

/// The streams that can be attached to one by one.
const STREAMS: [&str; 5] = ["stdin", "stdout", "stderr", "tty-in", "tty-out"];

/// `--mode` of `attach`.
pub(crate) fn attachment(text: &str) -> Result<Attachment> {
    match text {
        "list" => return Ok(Attachment::List),
        "auto" => return Ok(Attachment::Auto),
        _ => {}
    }
    let mut streams = Vec::new();
    for word in text.split(',') {
        match STREAMS.iter().find(|stream| **stream == word) {
            Some(stream) if !streams.contains(stream) => streams.push(*stream),
            Some(_) => bail!("{word}: named twice"),
            None => bail!(
                "{word:?}: must be list, auto, or some of {}",
                STREAMS.join(", ")
            ),
        }
    }
    let terminals = streams.iter().filter(|stream| stream.starts_with("tty"));
    match terminals.count() {
        count if count > 0 && count < streams.len() => {
            bail!("an app has either a terminal or other streams to attach to")
        }
        _ => Ok(Attachment::Custom(streams)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for mode in ["null", "interactive", "stream", "tty"] {
            assert_eq!(input(mode).unwrap(), mode);
            assert_eq!(output(mode).unwrap(), mode);
        }
        assert_eq!(output("log").unwrap(), "log");
        for (result, expected) in [
            (
                input("log"),
                "\"log\": must be one of null, interactive, stream, tty",
            ),
            (
                output(""),
                "\"\": must be one of log, null, interactive, stream, tty",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn attachments() {
        assert_eq!(attachment("list").unwrap(), Attachment::List);
        assert_eq!(attachment("auto").unwrap(), Attachment::Auto);
        assert_eq!(
            attachment("stdout,stdin").unwrap(),
            Attachment::Custom(vec!["stdout", "stdin"])
        );
        for (text, expected) in [
            ("", "\"\": must be list, auto, or some of"),
            ("auto,stdin", "\"auto\": must be list"),
            ("tty", "\"tty\": must be list"),
            ("stdin,stdin", "stdin: named twice"),
            ("stdin,tty-out", "an app has either a terminal"),
        ] {
            let error = attachment(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
