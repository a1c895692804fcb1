//! The manifests of the App Container specification, version 0.8.11.
//!
//! `parse` reads a manifest and checks every rule that the specification sets for it; `to_json`
//! writes it. Fields that this version does not know are kept in `extra`, so a manifest that is
//! read, changed and written again loses nothing. A `null` counts as an absent field, because
//! Go programs write empty lists so.

mod app;
mod error;
mod field;
mod image;
pub mod isolator;
mod json;
mod metadata;
mod name;
mod pod;
mod port;
mod version;
mod volume;

pub use app::{App, EnvironmentVariable, EventHandler, MountPoint};
pub use error::ManifestError;
pub use image::{Dependency, ImageManifest};
pub use isolator::Isolator;
pub(crate) use json::of_value;
pub use metadata::{Annotation, Label, annotation, label};
pub use name::{AcIdentifier, AcName, ImageId, NameError, Uuid};
pub use pod::{Mount, PodManifest, RuntimeApp, RuntimeImage};
pub use port::{ExposedPort, Port};
pub use volume::{Volume, VolumeKind};

/// The version of the specification that manifests written by this project declare.
pub const AC_VERSION: &str = "0.8.11";
