//! What a guest has done, and whether it may be believed.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::protocol::{Reported, Status, Step};

/// What the kernel writes whatever its log level is.
const PANIC: &str = "Kernel panic - not syncing";
/// How many lines of the console a failure shows.
const SHOWN: usize = 200;

/// The results of all steps of a guest that ended in order.
#[derive(Debug)]
pub struct Report {
    outputs: BTreeMap<String, String>,
    statuses: BTreeMap<String, Status>,
    console: String,
}

impl Report {
    /// Believes a guest when it has reported each step and the end, and its kernel did not panic. QEMU's exit status
    /// tells nothing: it is 0 after a panic too.
    pub(super) fn judge(steps: &[Step], reported: &str, console: &str) -> Result<Self> {
        let Reported {
            outputs,
            statuses,
            ended,
        } = Reported::parse(reported);
        if console.contains(PANIC) {
            bail!("the guest's kernel panicked\n{}", shown(console));
        }
        let mut tasks = steps.iter().filter_map(Step::task);
        if let Some(task) = tasks.find(|task| !statuses.contains_key(&task.name)) {
            bail!("no result of step {}\n{}", task.name, shown(console));
        }
        ensure!(ended, "the report has no end\n{}", shown(console));
        Ok(Self {
            outputs,
            statuses,
            console: console.into(),
        })
    }

    /// Fails unless a step ended like this; gives what it wrote.
    pub fn expect(&self, step: &str, status: &Status) -> Result<&str> {
        let seen = self.statuses.get(step);
        ensure!(
            seen == Some(status),
            "step {step}: status {status} expected, {} seen\n{}",
            seen.map_or("none".into(), Status::to_string),
            shown(&self.console)
        );
        Ok(self.output(step))
    }

    /// Fails unless a step succeeded and one of the lines that it wrote contains the text.
    pub fn expect_text(&self, step: &str, text: &str) -> Result<()> {
        let output = self.expect(step, &Status::Exited(0))?;
        ensure!(
            output.contains(text),
            "step {step}: no {text:?} in its output\n{}",
            shown(&self.console)
        );
        Ok(())
    }

    /// How a step ended.
    pub fn status(&self, step: &str) -> Option<&Status> {
        self.statuses.get(step)
    }

    /// What a step wrote on stdout and stderr.
    pub fn output(&self, step: &str) -> &str {
        self.outputs
            .get(step)
            .map(String::as_str)
            .unwrap_or_default()
    }
}

/// The last lines of a console, set apart from the rest of a message.
pub(super) fn shown(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    let mut text = String::from("the guest's console:");
    for line in last {
        text.push_str("\n  | ");
        text.push_str(line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::vm::protocol::Task;

    fn judge(reported: &str, console: &str) -> Result<Report> {
        let steps = ["a", "b"].map(|name| {
            Step::Run(Task {
                name: name.into(),
                argv: vec!["true".into()],
                limit: Duration::ZERO,
            })
        });
        Report::judge(&steps, reported, console)
    }

    const GOOD: &str = "OUTPUT name=b hello\nRESULT name=a status=0\nRESULT name=b status=7\nEND\n";

    #[test]
    fn gives_statuses_and_outputs() {
        let report = judge(GOOD, "booting\n").unwrap();
        assert_eq!(report.expect("b", &Status::Exited(7)).unwrap(), "hello\n");
        let error = report.expect("b", &Status::Exited(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "step b: status 0 expected, 7 seen\nthe guest's console:\n  | booting"
        );
    }

    #[test]
    fn a_missing_result_is_a_failure() {
        let error = judge("RESULT name=a status=0\nEND\n", "last words\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no result of step b\nthe guest's console:\n  | last words"
        );
    }

    #[test]
    fn a_missing_end_is_a_failure() {
        let reported = GOOD.trim_end_matches("END\n");
        let error = judge(reported, "").unwrap_err();
        assert!(error.to_string().starts_with("the report has no end"));
    }

    #[test]
    fn a_panic_is_a_failure_even_after_the_last_result() {
        let console = "[ 4.2] Kernel panic - not syncing: Attempted to kill init!\r\n";
        let error = judge(GOOD, console).unwrap_err();
        assert!(error.to_string().starts_with("the guest's kernel panicked"));
    }
}
