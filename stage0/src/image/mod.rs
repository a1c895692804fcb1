//! Image formats: reading App Container Images, OCI layouts and docker archives, and turning what
//! they say into an appc image manifest.

pub mod source;

pub use source::{ImageSource, SourceKind};
