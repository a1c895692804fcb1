//! Child processes: run, check the status, and put the command and its last words into the error.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", shown(command)))?;
    if !status.success() {
        bail!("run {}: {status}: {}", shown(command), last_line(&stderr));
    }
    Ok(stdout)
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing on stderr")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_output() {
        assert_eq!(output(Command::new("echo").arg("a")).unwrap(), b"a\n");
    }

    #[test]
    fn names_program_status_and_last_words() {
        let error = output(Command::new("ls").arg("/nonexistent")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("run ls: exit status: 2: "), "{text}");
        assert!(text.contains("/nonexistent"), "{text}");
    }
}
