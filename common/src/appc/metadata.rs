//! Labels and annotations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::AcIdentifier;

/// A label of an image: part of what identifies it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The label's name, for instance `version`, `os` or `arch`.
    pub name: AcIdentifier,
    /// Any text.
    pub value: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Metadata attached to an image, an app or a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The annotation's name.
    pub name: AcIdentifier,
    /// Any text.
    pub value: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The value of the annotation called `name`.
pub fn annotation<'a>(annotations: &'a [Annotation], name: &str) -> Option<&'a str> {
    let found = annotations.iter().find(|a| a.name.as_ref() == name)?;
    Some(&found.value)
}
