//! What became of an isolator, from what became of its parts.

use crate::status::{IsolatorReport, Outcome};

/// What became of one part of an isolator.
pub(super) enum Part {
    Exact,
    Other(String),
    Lost(String),
}

/// What became of a number.
pub(super) fn compare(found: Option<u64>, asked: u64, what: &str) -> Part {
    match found {
        Some(found) if found == asked => Part::Exact,
        Some(found) => Part::Other(format!("{found} {what}, not {asked}")),
        None => Part::Lost("the kernel has no such limit for its cgroup".into()),
    }
}

/// What became of the whole.
pub(super) fn report(name: &str, parts: Vec<Part>) -> IsolatorReport {
    let lost = parts.iter().all(|part| matches!(part, Part::Lost(_)));
    let told: Vec<_> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Exact => None,
            Part::Other(how) | Part::Lost(how) => Some(how),
        })
        .collect();
    IsolatorReport {
        name: name.to_owned(),
        outcome: match told.is_empty() {
            true => Outcome::Enforced,
            false if lost => Outcome::Ignored,
            false => Outcome::Modified,
        },
        detail: (!told.is_empty()).then(|| told.join("; ")),
    }
}
