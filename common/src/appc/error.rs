//! What is wrong with a manifest.

use thiserror::Error;

/// Why a manifest was refused.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The bytes are not JSON.
    #[error("not JSON: {0}")]
    Syntax(serde_json::Error),
    /// One field breaks a rule: `apps[1].app.exec: must not be empty`, or with the value that
    /// breaks it, `apps[0].name: "Foo_": must be …`.
    #[error("{field}: {}{rule}", .value.as_ref().map(|v| format!("{v}: ")).unwrap_or_default())]
    Field {
        /// The path of the field in the manifest.
        field: String,
        /// The value as JSON, where it helps the reader.
        value: Option<String>,
        /// The rule that is broken.
        rule: String,
    },
}
