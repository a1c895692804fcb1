//! The place in a manifest that a check is at, and the checks that many fields share.

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use super::error::ManifestError;
use super::json;

/// What a check gives.
pub(super) type Checked = Result<(), ManifestError>;

/// A field, as a chain of steps from the manifest down. Its path becomes text only in an error.
pub(super) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    /// A field of the manifest itself.
    pub(super) fn top(key: &'a str) -> Self {
        let step = Step::Key(key);
        Self { parent: None, step }
    }

    /// A field of this object.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        let step = Step::Key(key);
        Self {
            parent: Some(self),
            step,
        }
    }

    /// An element of this list.
    pub(super) fn at(&'a self, index: usize) -> Self {
        let step = Step::Index(index);
        Self {
            parent: Some(self),
            step,
        }
    }

    /// The error that the field breaks `rule`.
    pub(super) fn broken(&self, rule: impl fmt::Display) -> ManifestError {
        ManifestError::Field {
            field: self.to_string(),
            value: None,
            rule: rule.to_string(),
        }
    }

    /// The error that the field breaks `rule` by its value.
    pub(super) fn refused(
        &self,
        value: impl Into<Value>,
        rule: impl fmt::Display,
    ) -> ManifestError {
        ManifestError::Field {
            field: self.to_string(),
            value: Some(json::shown(&value.into())),
            rule: rule.to_string(),
        }
    }

    /// Text that a program can be given: without a NUL.
    pub(super) fn check_text(&self, text: &str) -> Checked {
        if text.contains('\0') {
            return Err(self.refused(text, "must not contain a NUL character"));
        }
        Ok(())
    }

    /// An absolute path.
    pub(super) fn check_absolute(&self, path: &str) -> Checked {
        if !path.starts_with('/') {
            return Err(self.refused(path, "must be an absolute path"));
        }
        self.check_text(path)
    }

    /// A user or group id that a file can have: the highest number means "none" to the kernel.
    pub(super) fn check_id(&self, id: u32) -> Checked {
        if id == u32::MAX {
            return Err(self.refused(id, "must be less than 4294967295"));
        }
        Ok(())
    }

    /// A program and its arguments.
    pub(super) fn check_exec(&self, exec: &[String]) -> Checked {
        if exec.first().is_some_and(String::is_empty) {
            return Err(self.at(0).broken("must not be empty"));
        }
        for (index, argument) in exec.iter().enumerate() {
            self.at(index).check_text(argument)?;
        }
        Ok(())
    }

    /// A list whose elements differ in the field `key`, of which `values` are the values.
    pub(super) fn check_unique<'v>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Checked {
        let mut seen = HashSet::new();
        for (index, value) in values.into_iter().enumerate() {
            if !seen.insert(value) {
                let rule = "must be unique in the list";
                return Err(self.at(index).key(key).refused(value, rule));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (self.parent, &self.step) {
            (_, Step::Index(index)) => write!(f, "[{index}]"),
            (Some(_), Step::Key(key)) => write!(f, ".{key}"),
            (None, Step::Key(key)) => f.write_str(key),
        }
    }
}
