//! How an app is run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::isolator::Isolator;
use super::json;
use super::name::AcName;

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

/// A port, or a range of ports, that the app listens on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The name by which ports of the host refer to it.
    pub name: AcName,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The first port.
    pub port: u16,
    /// How many ports, from the first on.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
    /// Whether the app is given the listening socket.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "json::is_false")]
    pub socket_activated: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn one() -> u16 {
    1
}

fn is_one(count: &u16) -> bool {
    *count == 1
}
