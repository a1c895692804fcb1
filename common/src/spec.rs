//! What the programs in the pod make: `prepare-app` for one app, the file `rkt/spec/APP`, and `pid1` for the pod, the file
//! `rkt/pod-spec`. Both are written by `init`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::confine::Confinement;
use crate::isolate::resource::Resources;
use crate::listen::Socket;
use crate::pod::{StageRoot, names_in};
use crate::status::IsolatorReport;
use crate::stream::Served;

/// The app's root, mounts and identity. The program and its arguments are on the command line of the app's
/// unit, the environment is in [`crate::env`]'s file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// Who it is and what it may do.
    pub confinement: Confinement,
    /// What becomes of the isolators that it asks for.
    pub isolators: Vec<IsolatorReport>,
    /// What its cgroup is to have.
    pub resources: Resources,
    /// The block device that its storage is on, `MAJOR:MINOR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Whether it must not start when an isolator is ignored.
    pub strict_isolators: bool,
    /// Absolute path in the app's root.
    pub working_directory: String,
    /// Whether the root is read-only, volumes apart.
    pub read_only_root: bool,
    /// Whether device nodes in the root and in volumes cannot be opened, but for a volume that is one. In a user namespace
    /// no rule of a cgroup restricts them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_devices: bool,
    /// Whether it tells when it is ready, on a socket that is shown to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notifies: bool,
    /// Whether paths of `/proc` and `/sys` are hidden or read-only.
    pub protect_paths: bool,
    /// The SELinux context of what is mounted for the app's `/dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_context: Option<String>,
    /// Volumes, parents before what is mounted below them.
    pub mounts: Vec<VolumeMount>,
    /// The sockets that systemd gives it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
    /// The names of its credentials, files in [`crate::pod::StageRoot::credential`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// Its streams, when `iottymux` serves some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Served>,
}

/// What prepare-app makes for the apps of a running pod, by their names, but for `app`.
///
/// # Errors
/// When one cannot be read; the message names the file.
pub fn others(root: &StageRoot, app: &str) -> Result<BTreeMap<String, AppSpec>> {
    let mut specs = BTreeMap::new();
    for name in names_in(&root.specs())? {
        // What is written is beside the file until it is whole.
        if name == app || name.contains('.') {
            continue;
        }
        let path = root.spec(&name);
        let context = || format!("read {}", path.display());
        let content = std::fs::read(&path).with_context(context)?;
        let spec = serde_json::from_slice(&content).with_context(context)?;
        specs.insert(name, spec);
    }
    Ok(specs)
}

/// Where an app finds its credentials, which its environment tells it.
pub fn credentials_directory(app: &str) -> String {
    format!("/run/credentials/{app}")
}

/// A volume in an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    /// The name below [`crate::pod::StageRoot::volumes`].
    pub volume: String,
    /// Absolute path in the app's root.
    pub target: String,
    /// Whether the app may only read, in mounts below it too.
    pub read_only: bool,
}

/// What the pod's first program does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// The v1 controllers in whose hierarchies the pod has a cgroup of its own.
    pub controllers: Vec<String>,
    /// Whether the host's systemd has put it into its scope there, which is not the pod's to change.
    pub in_scope: bool,
    /// Kernel parameters, by name.
    pub sysctl: BTreeMap<String, String>,
}
