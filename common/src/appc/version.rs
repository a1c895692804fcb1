//! What kind of manifest it is, and of which version.

use super::field::{Checked, Field};

/// Checks `acKind` and `acVersion`.
pub(super) fn check(kind: &str, expected: &str, version: &str) -> Checked {
    if kind != expected {
        let rule = format!("must be {expected:?}");
        return Err(Field::top("acKind").refused(kind, rule));
    }
    let field = Field::top("acVersion");
    if !is_semantic(version) {
        let rule = "must be a semantic version such as 0.8.11";
        return Err(field.refused(version, rule));
    }
    // All versions with one major number are compatible, and there is only this one.
    if !version.starts_with("0.") {
        return Err(field.refused(version, "must be a version 0.x of the specification"));
    }
    Ok(())
}

/// Whether `version` is `MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]` (semver.org 2.0.0).
fn is_semantic(version: &str) -> bool {
    let (version, build) = match version.split_once('+') {
        Some((version, build)) => (version, Some(build)),
        None => (version, None),
    };
    let (core, prerelease) = match version.split_once('-') {
        Some((core, prerelease)) => (core, Some(prerelease)),
        None => (version, None),
    };
    core.split('.').count() == 3
        && core.split('.').all(is_number)
        && prerelease.is_none_or(|p| p.split('.').all(|word| is_word(word) && !is_padded(word)))
        && build.is_none_or(|b| b.split('.').all(is_word))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !is_padded(text)
}

/// Whether it is a number with zeros in front.
fn is_padded(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
