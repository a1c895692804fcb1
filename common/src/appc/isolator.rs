//! Isolators: limits and restrictions of an app or a pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{Checked, Field};
use super::name::AcIdentifier;

/// Capabilities to take away from the default set.
pub const CAPABILITIES_REMOVE_SET: &str = "os/linux/capabilities-remove-set";
/// The only capabilities to keep.
pub const CAPABILITIES_RETAIN_SET: &str = "os/linux/capabilities-retain-set";
/// Whether programs may gain no privileges by being executed.
pub const NO_NEW_PRIVILEGES: &str = "os/linux/no-new-privileges";
/// System calls to forbid.
pub const SECCOMP_REMOVE_SET: &str = "os/linux/seccomp-remove-set";
/// The only system calls to allow.
pub const SECCOMP_RETAIN_SET: &str = "os/linux/seccomp-retain-set";
/// The SELinux context.
pub const SELINUX_CONTEXT: &str = "os/linux/selinux-context";
/// The AppArmor profile.
pub const APPARMOR_PROFILE: &str = "os/linux/apparmor-profile";
/// How readily the kernel kills the app when memory is short.
pub const OOM_SCORE_ADJ: &str = "os/linux/oom-score-adj";
/// The weight of the app in the sharing of processors.
pub const CPU_SHARES: &str = "os/linux/cpu-shares";
/// Kernel parameters of the pod.
pub const SYSCTL: &str = "os/unix/sysctl";
/// Processor time.
pub const CPU: &str = "resource/cpu";
/// Memory.
pub const MEMORY: &str = "resource/memory";
/// Bytes a second from and to block devices.
pub const BLOCK_BANDWIDTH: &str = "resource/block-bandwidth";
/// Operations a second on block devices.
pub const BLOCK_IOPS: &str = "resource/block-iops";
/// Bytes a second over the network.
pub const NETWORK_BANDWIDTH: &str = "resource/network-bandwidth";

/// Processes and threads; this project's own.
pub const PIDS_MAX: &str = "stage1/pids-max";

/// The isolators that the specification defines.
pub const KNOWN: [&str; 15] = [
    CAPABILITIES_REMOVE_SET,
    CAPABILITIES_RETAIN_SET,
    NO_NEW_PRIVILEGES,
    SECCOMP_REMOVE_SET,
    SECCOMP_RETAIN_SET,
    SELINUX_CONTEXT,
    APPARMOR_PROFILE,
    OOM_SCORE_ADJ,
    CPU_SHARES,
    SYSCTL,
    CPU,
    MEMORY,
    BLOCK_BANDWIDTH,
    BLOCK_IOPS,
    NETWORK_BANDWIDTH,
];

/// Isolators that may be given once. The others may be given again, and the last one counts: so
/// an executor overrides an image's limit by adding its own behind it.
const ONCE: [&str; 7] = [
    SECCOMP_REMOVE_SET,
    SECCOMP_RETAIN_SET,
    SELINUX_CONTEXT,
    APPARMOR_PROFILE,
    OOM_SCORE_ADJ,
    CPU_SHARES,
    SYSCTL,
];

/// Isolators that exclude each other.
const EXCLUSIVE: [[&str; 2]; 2] = [
    [CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET],
    [SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET],
];

/// A limit or restriction. The form of the value depends on the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolator {
    /// Which isolator this is.
    pub name: AcIdentifier,
    /// Its parameters.
    pub value: Value,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Isolator {
    /// Whether the specification defines it.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.name.as_str())
    }
}

/// The isolator called `name` that counts: the last one.
pub fn isolator<'a>(isolators: &'a [Isolator], name: &str) -> Option<&'a Isolator> {
    isolators.iter().rfind(|i| i.name.as_str() == name)
}

/// Checks which isolators are together in a list.
pub(super) fn check(field: &Field, isolators: &[Isolator]) -> Checked {
    for (index, isolator) in isolators.iter().enumerate() {
        let name = isolator.name.as_str();
        let is_before = |other: &str| isolators[..index].iter().any(|i| i.name.as_str() == other);
        let place = || field.at(index);
        if ONCE.contains(&name) && is_before(name) {
            return Err(place().key("name").refused(name, "must be given once"));
        }
        for pair in EXCLUSIVE.iter().filter(|pair| pair.contains(&name)) {
            if let Some(other) = pair.iter().find(|p| **p != name && is_before(p)) {
                let rule = format!("must not be together with {other}");
                return Err(place().key("name").refused(name, rule));
            }
        }
    }
    Ok(())
}
