//! Which devices an app may open and make: those of the specification, and host volumes that are device nodes.

use crate::load::Pod;
use crate::plan::Directive;
use crate::spec::VolumeMount;
use crate::volume::{Source, Volumes};

/// The rules for the app's cgroup. systemd's `closed` has just the specification's nodes: null, zero, full, random,
/// urandom, tty, ptmx, and pseudo terminals, the console too. A volume can be opened, as it is mounted, and no node be
/// made of it.
pub(super) fn directives(pod: &Pod, volumes: &Volumes, mounts: &[VolumeMount]) -> Vec<Directive> {
    let mut directives = vec![("DevicePolicy", "closed".to_owned())];
    for mount in mounts {
        let volume = volumes.volumes.iter().find(|v| v.key == mount.volume);
        let Some(Source::Host { path, .. }) = volume.map(|v| &v.source) else {
            continue;
        };
        if let Some(device) = pod.devices.get(path) {
            let access = if mount.read_only { "r" } else { "rw" };
            directives.push(("DeviceAllow", format!("{device} {access}")));
        }
    }
    directives
}
