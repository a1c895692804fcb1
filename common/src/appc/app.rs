//! How an app is run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{Checked, Field};
use super::isolator::{self, Isolator};
use super::json;
use super::name::AcName;
use super::port::Port;

/// The app section of an image manifest, or what a pod manifest puts in its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// The program and its arguments.
    #[serde(default, deserialize_with = "json::null_is_default")]
    pub exec: Vec<String>,
    /// Programs to run before the start and after the end.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_handlers: Vec<EventHandler>,
    /// The user: a name, a number, or an absolute path whose owner it is.
    pub user: String,
    /// The group: a name, a number, or an absolute path whose group it is.
    pub group: String,
    /// Further groups.
    #[serde(rename = "supplementaryGIDs", alias = "supplementaryGids")]
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplementary_gids: Vec<u32>,
    /// Where the program starts; `/` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Environment variables.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<EnvironmentVariable>,
    /// Where the app expects volumes.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<MountPoint>,
    /// Ports that the app listens on.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Limits and restrictions.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolators: Vec<Isolator>,
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

/// A program to run at a point of the app's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventHandler {
    /// `pre-start` or `post-stop`.
    pub name: String,
    /// The program and its arguments.
    #[serde(default, deserialize_with = "json::null_is_default")]
    pub exec: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentVariable {
    /// Letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// Any text.
    pub value: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A place where the app expects a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// The name by which a volume is found.
    pub name: AcName,
    /// The absolute path in the app's root.
    pub path: String,
    /// Whether the app needs only to read.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "json::is_false")]
    pub read_only: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl App {
    /// Checks the section; `exec` may be empty, as it may be in an image.
    pub(super) fn check(&self, field: &Field) -> Checked {
        field.key("exec").check_exec(&self.exec)?;
        let identity = [("user", &self.user), ("group", &self.group)];
        for (key, value) in identity {
            if value.is_empty() {
                return Err(field.key(key).broken("must not be empty"));
            }
            field.key(key).check_text(value)?;
        }
        for (index, gid) in self.supplementary_gids.iter().enumerate() {
            field.key("supplementaryGIDs").at(index).check_id(*gid)?;
        }
        match self.working_directory.as_deref() {
            None | Some("") => {}
            Some(path) => field.key("workingDirectory").check_absolute(path)?,
        }
        self.check_event_handlers(&field.key("eventHandlers"))?;
        self.check_environment(&field.key("environment"))?;
        self.check_mount_points(&field.key("mountPoints"))?;
        self.check_ports(&field.key("ports"))?;
        isolator::check(&field.key("isolators"), &self.isolators)
    }

    fn check_event_handlers(&self, field: &Field) -> Checked {
        for (index, handler) in self.event_handlers.iter().enumerate() {
            let field = field.at(index);
            if !matches!(handler.name.as_str(), "pre-start" | "post-stop") {
                let rule = "must be pre-start or post-stop";
                return Err(field.key("name").refused(handler.name.as_str(), rule));
            }
            if handler.exec.is_empty() {
                return Err(field.key("exec").broken("must not be empty"));
            }
            field.key("exec").check_exec(&handler.exec)?;
        }
        field.check_unique("name", self.event_handlers.iter().map(|h| h.name.as_str()))
    }

    fn check_environment(&self, field: &Field) -> Checked {
        for (index, variable) in self.environment.iter().enumerate() {
            let field = field.at(index);
            if !is_variable_name(&variable.name) {
                let rule =
                    "must be letters, digits, '_', '.' and '-', with no digit, '.' or '-' first";
                return Err(field.key("name").refused(variable.name.as_str(), rule));
            }
            field.key("value").check_text(&variable.value)?;
        }
        field.check_unique("name", self.environment.iter().map(|v| v.name.as_str()))
    }

    fn check_mount_points(&self, field: &Field) -> Checked {
        for (index, point) in self.mount_points.iter().enumerate() {
            field.at(index).key("path").check_absolute(&point.path)?;
        }
        field.check_unique("name", self.mount_points.iter().map(|p| p.name.as_str()))
    }

    fn check_ports(&self, field: &Field) -> Checked {
        for (index, port) in self.ports.iter().enumerate() {
            port.check(&field.at(index))?;
        }
        field.check_unique("name", self.ports.iter().map(|p| p.name.as_str()))
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
