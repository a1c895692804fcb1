//! The results of a tier of tests that has run in a guest, read from what its runner wrote.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Passed,
    /// With this message, which is empty until the runner tells the messages.
    Failed(String),
    /// It could not run there: why.
    Skipped(String),
}

/// Results by the names of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcomes(BTreeMap<String, Ended>);

impl Outcomes {
    /// Reads the runner's lines: `test NAME ... ok`, `FAILED` or `ignored (WHY)` as each test ends, and after the last
    /// one `---- NAME ----` with the message of each that failed. Other lines, of the tests and what they started, may
    /// stand between them.
    pub fn parse(text: &str) -> Self {
        let mut outcomes = Self::default();
        let mut failed: Option<&str> = None;
        for line in text.lines() {
            if let Some(name) = heading(line) {
                failed = Some(name);
            } else if line == "failures:" {
                failed = None;
            } else if let Some(name) = failed {
                outcomes.tell(name, line);
            } else if let Some((name, ended)) = result(line) {
                outcomes.0.insert(name.into(), ended);
            }
        }
        outcomes
    }

    /// Adds a line to the message of a test that failed.
    fn tell(&mut self, name: &str, line: &str) {
        if let Some(Ended::Failed(message)) = self.0.get_mut(name) {
            message.push_str(line);
            message.push('\n');
        }
    }

    /// How a test ended, if the guest has told that.
    pub fn get(&self, name: &str) -> Option<&Ended> {
        self.0.get(name)
    }

    /// Whether any test failed.
    pub fn any_failed(&self) -> bool {
        let mut all = self.0.values();
        all.any(|ended| matches!(ended, Ended::Failed(_)))
    }
}

fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" ----")
}

fn result(line: &str) -> Option<(&str, Ended)> {
    let (name, how) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let ended = match how {
        "ok" => Ended::Passed,
        "FAILED" => Ended::Failed(String::new()),
        _ => Ended::Skipped(reason(how)?.into()),
    };
    Some((name.trim_end(), ended))
}

fn reason(how: &str) -> Option<&str> {
    let reason = how.strip_prefix("ignored")?;
    Some(
        reason
            .strip_prefix(" (")
            .and_then(|reason| reason.strip_suffix(')'))
            .unwrap_or(reason),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
running 4 tests
test exit::status        ... ok
failed at tests/pods/logs.rs:7
test logs::all           ... FAILED
test lsm::profiles       ... ignored (this host has no AppArmor)
a warning
test added::exit::status ... FAILED

failures:

---- logs::all ----
no line of the app:
test of nothing ... ok

---- added::exit::status ----
status 3


failures:
    logs::all
    added::exit::status

test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn reads_results_messages_and_reasons() {
        let outcomes = Outcomes::parse(TEXT);
        let failed = |text: &str| Some(Ended::Failed(text.into()));
        let logs = "no line of the app:\ntest of nothing ... ok\n\n";
        assert_eq!(outcomes.get("exit::status"), Some(&Ended::Passed));
        assert_eq!(outcomes.get("logs::all").cloned(), failed(logs));
        assert_eq!(
            outcomes.get("added::exit::status").cloned(),
            failed("status 3\n\n\n")
        );
        assert_eq!(
            outcomes.get("lsm::profiles"),
            Some(&Ended::Skipped("this host has no AppArmor".into()))
        );
        assert!(outcomes.any_failed());
        assert_eq!(outcomes.0.len(), 4);
    }

    #[test]
    fn a_test_without_a_result_has_none() {
        let outcomes = Outcomes::parse("test exit::status ... \ntest logs::all ... o");
        assert_eq!(outcomes, Outcomes::default());
    }
}
