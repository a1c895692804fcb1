//! What became of isolators.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of an isolator (appc specification, "Isolators": executors must make it known).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IsolatorReport {
    /// The isolator.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How it was modified, or why it was ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl IsolatorReport {
    /// Corrects what was planned by what was found in the kernel. Gives what was not as planned.
    pub fn correct(planned: &mut Vec<Self>, found: Vec<Self>) -> Vec<Self> {
        let mut news = Vec::new();
        for report in found {
            match planned.iter_mut().find(|p| p.name == report.name) {
                // In force, if perhaps not as asked.
                Some(plan) if report.outcome == Outcome::Enforced => {
                    if plan.outcome == Outcome::Ignored {
                        *plan = report;
                    }
                    continue;
                }
                None if report.outcome == Outcome::Enforced => continue,
                Some(plan) if *plan == report => continue,
                Some(plan) => *plan = report.clone(),
                None => planned.push(report.clone()),
            }
            news.push(report);
        }
        news
    }
}

impl fmt::Display for IsolatorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Enforced => "enforced",
            Outcome::Modified => "modified",
            Outcome::Ignored => "ignored",
        };
        write!(f, "isolator {} is {outcome}", self.name)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// What can become of an isolator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in force as asked.
    Enforced,
    /// It is in force in another way than asked.
    Modified,
    /// It is not in force.
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_corrected_by_what_was_found() {
        let report = |name: &str, outcome, detail: Option<&str>| IsolatorReport {
            name: name.into(),
            outcome,
            detail: detail.map(Into::into),
        };
        use Outcome::{Enforced, Ignored, Modified};
        let mut reports = vec![
            report("kept", Modified, Some("planned")),
            report("lost", Enforced, None),
            report("other", Enforced, None),
        ];
        let found = vec![
            report("kept", Enforced, None),
            report("lost", Ignored, Some("found")),
            report("new", Ignored, None),
            report("new-and-well", Enforced, None),
        ];
        let news = IsolatorReport::correct(&mut reports, found);
        assert_eq!(
            news,
            [
                report("lost", Ignored, Some("found")),
                report("new", Ignored, None)
            ]
        );
        let texts: Vec<_> = reports.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "isolator kept is modified: planned",
                "isolator lost is ignored: found",
                "isolator other is enforced",
                "isolator new is ignored",
            ]
        );
    }
}
