//! The pod manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AC_VERSION;
use super::app::App;
use super::error::ManifestError;
use super::field::{Checked, Field};
use super::isolator::{self, Isolator};
use super::json;
use super::metadata::{self, Annotation, Label};
use super::name::{AcIdentifier, AcName, ImageId};
use super::port::{self, ExposedPort};
use super::version;
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
    /// The absolute path in the app's root.
    pub path: String,
    /// A volume of this app's own, in place of the pod's volume of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_volume: Option<Volume>,
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
        version::check(&self.ac_kind, Self::KIND, &self.ac_version)?;
        let volumes = Field::top("volumes");
        for (index, volume) in self.volumes.iter().enumerate() {
            volume.check(&volumes.at(index))?;
        }
        volumes.check_unique("name", self.volumes.iter().map(|v| v.name.as_str()))?;
        let apps = Field::top("apps");
        for (index, app) in self.apps.iter().enumerate() {
            app.check(&apps.at(index), &self.volumes)?;
        }
        apps.check_unique("name", self.apps.iter().map(|a| a.name.as_str()))?;
        isolator::check(&Field::top("isolators"), &self.isolators)?;
        metadata::check_annotations(&Field::top("annotations"), &self.annotations)?;
        let ports = Field::top("ports");
        for (index, port) in self.ports.iter().enumerate() {
            self.check_exposed(&ports.at(index), port)?;
        }
        Ok(())
    }

    /// Checks that a port of the host leads to exactly one port of the pod.
    fn check_exposed(&self, field: &Field, exposed: &ExposedPort) -> Checked {
        let own = self
            .apps
            .iter()
            .filter(|app| exposed.is_of(app.name.as_str()));
        if let (Some(app), None) = (&exposed.app, own.clone().next()) {
            let rule = "must be the name of an app";
            return Err(field.key("app").refused(app.as_str(), rule));
        }
        if let Some(port) = &exposed.pod_port {
            let pod_port = field.key("podPort");
            port.check(&pod_port)?;
            port.check_reachable(&pod_port)?;
            return port::check_range(&field.key("hostPort"), exposed.host_port, port.count);
        }
        let name = exposed.name.as_str();
        let mut found = own.clone().filter_map(|app| {
            let port = app
                .app
                .as_ref()?
                .ports
                .iter()
                .find(|p| p.name == exposed.name)?;
            Some((app, port))
        });
        let (first, second) = (found.next(), found.next());
        if let (Some((one, _)), Some((other, _))) = (first, second) {
            let (one, other) = (&one.name, &other.name);
            let rule = format!("must be a port of one app, but {one} and {other} both have it");
            return Err(field.key("name").refused(name, rule));
        }
        let Some((_, port)) = first else {
            // An app without a section has the ports of its image, which is not known here.
            if own.clone().all(|app| app.app.is_some()) {
                let rule = "must be the name of an app's port, or come with podPort";
                return Err(field.key("name").refused(name, rule));
            }
            return port::check_range(&field.key("hostPort"), exposed.host_port, 1);
        };
        port::check_range(&field.key("hostPort"), exposed.host_port, port.count)?;
        if port.check_reachable(field).is_err() {
            let protocol = &port.protocol;
            let rule = format!("must be a tcp or udp port, not {protocol}");
            return Err(field.key("name").refused(name, rule));
        }
        Ok(())
    }
}

impl RuntimeApp {
    fn check(&self, field: &Field, volumes: &[Volume]) -> Checked {
        metadata::check_labels(&field.key("image").key("labels"), &self.image.labels)?;
        if let Some(app) = &self.app {
            if app.exec.is_empty() {
                return Err(field.key("app").key("exec").broken("must not be empty"));
            }
            app.check(&field.key("app"))?;
        }
        let mounts = field.key("mounts");
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.check(&mounts.at(index), volumes)?;
        }
        mounts.check_unique("path", self.mounts.iter().map(|m| m.path.as_str()))?;
        metadata::check_annotations(&field.key("annotations"), &self.annotations)
    }
}

impl Mount {
    fn check(&self, field: &Field, volumes: &[Volume]) -> Checked {
        field.key("path").check_absolute(&self.path)?;
        if let Some(volume) = &self.app_volume {
            return volume.check(&field.key("appVolume"));
        }
        if !volumes.iter().any(|volume| volume.name == self.volume) {
            let rule = "must be the name of a volume of the pod";
            return Err(field.key("volume").refused(self.volume.as_str(), rule));
        }
        Ok(())
    }
}
