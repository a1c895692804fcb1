//! Which devices an app may open and make: those of the specification, and host volumes that are device nodes.

use caps::{Capability, CapsHashSet};

use crate::plan::{Directive, Inputs};
use crate::spec::VolumeMount;
use crate::volume::{Source, Volumes};

/// What restricts an app's devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// The rules for the app's cgroup.
    pub(super) directives: Vec<Directive>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// systemd's `closed` has just the specification's nodes: null, zero, full, random, urandom, tty, ptmx, and pseudo
/// terminals, the console too. A volume can be opened, as it is mounted, and no node be made of it.
///
/// In a user namespace there are no such rules. No node can be made there, and what is mounted for the app is mounted so
/// that nodes on it cannot be opened ([`crate::spec::AppSpec::no_devices`]).
pub(super) fn plan(
    inputs: &Inputs<'_>,
    app: &str,
    capabilities: &CapsHashSet,
    volumes: &Volumes,
    mounts: &[VolumeMount],
) -> Devices {
    let private = inputs.options.private_users.is_some();
    let mut devices = Devices {
        directives: vec![("DevicePolicy", "closed".to_owned())],
        warnings: Vec::new(),
    };
    let mighty =
        inputs.options.disable_capabilities || capabilities.contains(&Capability::CAP_SYS_ADMIN);
    if private && mighty {
        devices.warnings.push(format!(
            "app {app}: with CAP_SYS_ADMIN it can mount volumes anew, and open the device nodes in them"
        ));
    }
    for mount in mounts {
        let volume = volumes.volumes.iter().find(|v| v.key == mount.volume);
        let Some(Source::Host { path, .. }) = volume.map(|v| &v.source) else {
            continue;
        };
        if let Some(device) = inputs.pod.devices.get(path) {
            let access = if mount.read_only { "r" } else { "rw" };
            let rule = format!("{device} {access}");
            devices.directives.push(("DeviceAllow", rule));
            if private && mount.read_only {
                devices.warnings.push(format!(
                    "app {app}: volume {}: a device that is to be read only can be written to in a user namespace",
                    mount.volume
                ));
            }
        }
    }
    devices
}
