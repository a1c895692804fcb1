//! Options that rkt's users know and that are not supported yet: each fails and says so; none is taken and ignored.

use anyhow::{Result, bail};

/// `--private-users`.
pub(crate) fn private_users(_: &str) -> Result<String> {
    bail!("pods with a user namespace are not supported yet")
}

/// `--stdin`: where an app's standard input comes from.
pub(crate) fn input(mode: &str) -> Result<String> {
    stream(mode, &["null", "interactive"])
}

/// `--stdout` and `--stderr`: where an app's output goes.
pub(crate) fn output(mode: &str) -> Result<String> {
    stream(mode, &["log", "null", "interactive"])
}

fn stream(mode: &str, known: &[&str]) -> Result<String> {
    match mode {
        _ if known.contains(&mode) => Ok(mode.to_owned()),
        "stream" | "tty" => bail!("{mode}: attaching to streams is not supported yet"),
        _ => bail!("{mode:?}: must be one of {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams() {
        assert_eq!(input("null").unwrap(), "null");
        assert_eq!(output("log").unwrap(), "log");
        for (result, expected) in [
            (input("log"), "\"log\": must be one of null, interactive"),
            (output(""), "\"\": must be one of log, null, interactive"),
            (
                input("stream"),
                "stream: attaching to streams is not supported yet",
            ),
            (
                output("tty"),
                "tty: attaching to streams is not supported yet",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn everything_else_fails() {
        let text = private_users("true").unwrap_err().to_string();
        assert!(text.contains("not supported yet"), "{text}");
    }
}
