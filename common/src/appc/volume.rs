//! Volumes of a pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::AcName;

/// Where a volume's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// A path of the host.
    Host,
    /// A new directory that lives as long as the pod.
    Empty,
}

/// Storage that apps of the pod can mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The name that mounts and mount points refer to.
    pub name: AcName,
    /// Where the content is.
    pub kind: VolumeKind,
    /// The absolute path on the host (kind host).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether no app may write to it; the specification's default is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether mounts below the source come along (kind host); the specification's default is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// The directory's octal mode (kind empty).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The directory's owner (kind empty).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The directory's group (kind empty).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
