//! Volumes of a pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{Checked, Field};
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
    /// Whether owners are the same in the pod as on the host (kind host), for pods with a user namespace; this project's
    /// own, false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<bool>,
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

impl Volume {
    pub(super) fn check(&self, field: &Field) -> Checked {
        let source = self.source.as_deref().unwrap_or_default();
        match self.kind {
            VolumeKind::Host => {
                if source.is_empty() {
                    let rule = "must be given for a volume of kind host";
                    return Err(field.key("source").broken(rule));
                }
                field.key("source").check_absolute(source)?;
                if self.idmap == Some(true) && self.recursive == Some(true) {
                    let rule = "must not be true for a volume whose owners are mapped (idmap)";
                    return Err(field.key("recursive").broken(rule));
                }
                let owner = [
                    ("mode", self.mode.is_some()),
                    ("uid", self.uid.is_some()),
                    ("gid", self.gid.is_some()),
                ];
                for (key, given) in owner {
                    if given {
                        let rule = "must be given only for a volume of kind empty";
                        return Err(field.key(key).broken(rule));
                    }
                }
            }
            VolumeKind::Empty => {
                if !source.is_empty() {
                    let rule = "must not be given for a volume of kind empty";
                    return Err(field.key("source").refused(source, rule));
                }
                if let Some(mode) = self.mode.as_deref().filter(|mode| !is_mode(mode)) {
                    let rule = "must be an octal file mode such as 0755";
                    return Err(field.key("mode").refused(mode, rule));
                }
                if self.idmap.is_some() {
                    let rule = "must be given only for a volume of kind host";
                    return Err(field.key("idmap").broken(rule));
                }
                for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
                    id.map_or(Ok(()), |id| field.key(key).check_id(id))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether `text` is octal digits that make a file mode.
fn is_mode(text: &str) -> bool {
    let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    octal && u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777)
}
