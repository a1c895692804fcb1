//! The image manifest.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AC_VERSION;
use super::app::App;
use super::error::ManifestError;
use super::field::Field;
use super::json;
use super::metadata::{self, Annotation, Label};
use super::name::{AcIdentifier, ImageId};
use super::version;

/// What an image says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always `ImageManifest`.
    pub ac_kind: String,
    /// The version of the specification that the manifest follows.
    pub ac_version: String,
    /// The image's name.
    pub name: AcIdentifier,
    /// What distinguishes it from other images of that name.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// How to run the image; without it the image only provides files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Images whose files lie below this image's.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// If not empty, the only paths to keep of image and dependencies.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path_whitelist: Vec<String>,
    /// Further metadata.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An image that another image builds on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The name of the image.
    pub image_name: AcIdentifier,
    /// Exactly which image, where that is fixed.
    #[serde(rename = "imageID")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<ImageId>,
    /// Labels that the image must have.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// The image's size in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageManifest {
    /// The value of `acKind`.
    pub const KIND: &'static str = "ImageManifest";

    /// A manifest with a name and nothing else.
    pub fn new(name: AcIdentifier) -> Self {
        Self {
            ac_kind: Self::KIND.to_owned(),
            ac_version: AC_VERSION.to_owned(),
            name,
            labels: Vec::new(),
            app: None,
            dependencies: Vec::new(),
            path_whitelist: Vec::new(),
            annotations: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Reads and validates a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = json::parse(bytes)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Writes the manifest as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::to_json(self)
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        metadata::label(&self.labels, name)
    }

    /// Checks every rule that the types alone do not keep.
    pub fn validate(&self) -> Result<(), ManifestError> {
        version::check(&self.ac_kind, Self::KIND, &self.ac_version)?;
        metadata::check_labels(&Field::top("labels"), &self.labels)?;
        if let Some(app) = &self.app {
            app.check(&Field::top("app"))?;
        }
        let dependencies = Field::top("dependencies");
        for (index, dependency) in self.dependencies.iter().enumerate() {
            let field = dependencies.at(index);
            metadata::check_labels(&field.key("labels"), &dependency.labels)?;
        }
        let whitelist = Field::top("pathWhitelist");
        for (index, path) in self.path_whitelist.iter().enumerate() {
            whitelist.at(index).check_absolute(path)?;
        }
        metadata::check_image_annotations(&Field::top("annotations"), &self.annotations)
    }
}
