//! Isolators: limits and restrictions of an app or a pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::AcIdentifier;

/// A limit or restriction. The form of the value depends on the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolator {
    /// Which isolator this is.
    pub name: AcIdentifier,
    /// Its parameters.
    pub value: Value,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
