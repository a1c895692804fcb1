//! What the fixture and the agent in the guest tell each other.
//!
//! The fixture leaves the steps in `steps.json` on the payload disk. The agent answers on the second serial port, in
//! lines, after the first, which the initramfs writes:
//!
//! ```text
//! KERNEL                        the kernel has come up
//! BEGIN                         the guest has booted, and the agent runs
//! OUTPUT name=STEP TEXT         a line of what the step wrote on stdout or stderr, as it comes
//! RESULT name=STEP status=WHAT  the step has ended: an exit status, signal:N, timeout, or failed:WHY
//! END                           all steps are done
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The file with the steps.
pub(super) const STEPS: &str = "steps.json";
/// The lines before the first result.
pub(super) const KERNEL: &str = "KERNEL";
pub(super) const BEGIN: &str = "BEGIN";
/// The line after the last result.
pub(super) const END: &str = "END";

/// One thing that the agent does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    /// Runs a command to its end.
    Run(Task),
    /// Starts a command and goes on. Its result comes when it ends; the agent ends after it.
    Start(Task),
    /// Waits for the end of a command that was started.
    Join(String),
}

/// A command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    /// How its result is called: one word.
    pub(super) name: String,
    /// The command line. It is run in the payload's folder.
    pub(super) argv: Vec<String>,
    /// How long it may take.
    pub(super) limit: Duration,
}

impl Step {
    /// The command whose result is to come.
    pub(super) fn task(&self) -> Option<&Task> {
        match self {
            Self::Run(task) | Self::Start(task) => Some(task),
            Self::Join(_) => None,
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// It took too long and was killed by the agent.
    TimedOut,
    /// It could not be run.
    Failed(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "{code}"),
            Self::Killed(signal) => write!(f, "signal:{signal}"),
            Self::TimedOut => write!(f, "timeout"),
            Self::Failed(why) => write!(f, "failed:{}", why.replace('\n', " ")),
        }
    }
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        if let Some(why) = text.strip_prefix("failed:") {
            return Some(Self::Failed(why.into()));
        }
        if let Some(signal) = text.strip_prefix("signal:") {
            return signal.parse().ok().map(Self::Killed);
        }
        if text == "timeout" {
            return Some(Self::TimedOut);
        }
        text.parse().ok().map(Self::Exited)
    }
}

/// The agent's side of the lines.
pub(super) fn output_line(step: &str, text: &str) -> String {
    format!("OUTPUT name={step} {text}\n")
}

/// The agent's side of the lines.
pub(super) fn result_line(step: &str, status: &Status) -> String {
    format!("RESULT name={step} status={status}\n")
}

/// What a guest has reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) outputs: BTreeMap<String, String>,
    pub(super) statuses: BTreeMap<String, Status>,
    pub(super) ended: bool,
}

impl Reported {
    /// Reads the lines. One that was cut off, as by a panic in its middle, counts as not written.
    pub(super) fn parse(text: &str) -> Self {
        let mut reported = Self::default();
        for line in text.split_inclusive('\n') {
            if let Some(line) = line.strip_suffix('\n') {
                reported.take(line.trim_end_matches('\r'));
            }
        }
        reported
    }

    fn take(&mut self, line: &str) {
        if line == END {
            self.ended = true;
        } else if let Some((step, text)) = named(line, "OUTPUT") {
            let output = self.outputs.entry(step.into()).or_default();
            output.push_str(text);
            output.push('\n');
        } else if let Some((step, text)) = named(line, "RESULT") {
            let status = text.strip_prefix("status=").and_then(Status::parse);
            if let Some(status) = status {
                self.statuses.insert(step.into(), status);
            }
        }
    }
}

fn named<'a>(line: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(kind)?
        .strip_prefix(" name=")?
        .split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_the_agent_writes() {
        let statuses = [
            ("a", Status::Exited(7)),
            ("b", Status::Killed(9)),
            ("c", Status::TimedOut),
            ("d", Status::Failed("no such file".into())),
        ];
        let mut text = output_line("a", "first") + &output_line("a", "") + &output_line("b", "x y");
        for (step, status) in &statuses {
            text += &result_line(step, status);
        }
        text += "END\n";
        let reported = Reported::parse(&text);
        assert_eq!(reported.outputs["a"], "first\n\n");
        assert_eq!(reported.outputs["b"], "x y\n");
        let expected = statuses.map(|(step, status)| (step.to_owned(), status));
        assert_eq!(reported.statuses, BTreeMap::from(expected));
        assert!(reported.ended);
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_result() {
        let reported = Reported::parse("RESULT name=a status=0\nRESULT name=b status=12");
        assert_eq!(reported.statuses.len(), 1);
        assert!(!reported.ended);
    }

    #[test]
    fn a_terminal_s_line_ends_do_not_matter() {
        let reported = Reported::parse("RESULT name=a status=0\r\nEND\r\n");
        assert_eq!(reported.statuses["a"], Status::Exited(0));
        assert!(reported.ended);
    }
}
