//! Devices that an app may open beside those of the specification: host volumes that are device nodes.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A device by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// A block device; else a character device.
    pub block: bool,
    /// Which driver.
    pub major: u32,
    /// Which device of the driver.
    pub minor: u32,
}

impl Device {
    /// The device whose node a file is.
    pub fn of(file: &Metadata) -> Option<Self> {
        let kind = file.file_type();
        (kind.is_block_device() || kind.is_char_device()).then(|| Device {
            block: kind.is_block_device(),
            major: rustix::fs::major(file.rdev()),
            minor: rustix::fs::minor(file.rdev()),
        })
    }

    /// A rule of the v1 controller for it (devices.rst); `access` is of the letters `rwm`.
    pub(crate) fn rule(self, access: &str) -> String {
        let kind = if self.block { 'b' } else { 'c' };
        format!("{kind} {}:{} {access}", self.major, self.minor)
    }
}

impl fmt::Display for Device {
    /// As systemd takes it without looking for the node, which the pod's `/dev` does not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.block { "block" } else { "char" };
        write!(f, "/dev/{kind}/{}:{}", self.major, self.minor)
    }
}
