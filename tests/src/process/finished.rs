//! Commands that have ended, and what is expected of them.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::{Result, ensure};

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    pub(super) command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote on stdout.
    pub stdout: String,
    /// All that it wrote on stderr.
    pub stderr: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\nstdout: {}\nstderr: {}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

impl Finished {
    /// Exit code; 128+signal when killed.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Fails unless it exited with this code.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code() == code,
            "exit status {code} expected, of {self}"
        );
        Ok(self)
    }

    /// Fails unless it failed as our programs do: exit 254, and a line on stderr that contains all of `parts`.
    pub fn expect_refusal(self, parts: &[&str]) -> Result<Self> {
        let finished = self.expect(254)?;
        let explained = finished
            .stderr
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(explained, "no line with {parts:?} on stderr of {finished}");
        Ok(finished)
    }

    /// What an app wrote: the text of console lines `APP[PID]: text`, with or without a time before them.
    pub fn console(&self, app: &str) -> Vec<&str> {
        self.stdout
            .lines()
            .filter_map(|line| console_text(line, app))
            .collect()
    }
}

fn console_text<'a>(line: &'a str, app: &str) -> Option<&'a str> {
    let line = match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    };
    let (pid, text) = line
        .strip_prefix(app)?
        .strip_prefix('[')?
        .split_once("]: ")?;
    pid.parse::<u32>().is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines() {
        assert_eq!(console_text("a[12]: text: more", "a"), Some("text: more"));
        assert_eq!(
            console_text("[    1.234567] a[12]: text", "a"),
            Some("text")
        );
        for other in [
            "ab[12]: text",
            "a[x]: text",
            "a: text",
            "[note] a[12]: text",
            "",
        ] {
            assert_eq!(console_text(other, "a"), None, "{other:?}");
        }
    }
}
