//! What the v1 controller lets a pod do with devices.

use std::path::Path;

use anyhow::Result;

use super::{DEVICES, Hierarchies, PAYLOAD, SYSTEM_SLICE, write};
use crate::isolate::device::Device;

impl Hierarchies {
    /// Lets a pod, in its cgroup, and the apps that will start in it read and write more devices, where the v1 controller
    /// restricts it. Cgroups have the list that the one above had when they were made, and get nothing more from there
    /// (devices.rst).
    pub fn allow_devices(
        &self,
        pod: &Path,
        devices: impl IntoIterator<Item = Device>,
    ) -> Result<()> {
        let Some(hierarchy) = self
            .0
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == DEVICES))
        else {
            return Ok(());
        };
        let payload = pod.join(PAYLOAD);
        let slice = payload.join(SYSTEM_SLICE);
        let dirs = [pod, &payload, &slice].map(|path| hierarchy.dir(path));
        let dirs: Vec<_> = dirs.into_iter().filter(|dir| dir.exists()).collect();
        for device in devices {
            let rule = device.rule("rw");
            dirs.iter()
                .try_for_each(|dir| write(&dir.join("devices.allow"), &rule))?;
        }
        Ok(())
    }
}
