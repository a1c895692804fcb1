//! What is needed of the kernel that not every kernel has: it may be old, built without it, or hidden by a filter of system
//! calls around this process.

use std::io;

use anyhow::{Result, bail};
use nix::libc;

use crate::sys;

/// The system calls without which no pod is made or looked after, and the version of Linux that each came with.
const CALLS: [(&str, libc::c_long, &str); 10] = [
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, "5.1"),
    ("open_tree", libc::SYS_open_tree, "5.2"),
    ("move_mount", libc::SYS_move_mount, "5.2"),
    ("fsopen", libc::SYS_fsopen, "5.2"),
    ("fsconfig", libc::SYS_fsconfig, "5.2"),
    ("fsmount", libc::SYS_fsmount, "5.2"),
    ("pidfd_open", libc::SYS_pidfd_open, "5.3"),
    ("openat2", libc::SYS_openat2, "5.6"),
    ("close_range", libc::SYS_close_range, "5.9"),
    ("mount_setattr", libc::SYS_mount_setattr, "5.12"),
];

/// Refuses a kernel that lacks a system call, before that is found out halfway.
pub fn check() -> Result<()> {
    for (name, number, version) in CALLS {
        if !sys::has_call(number) {
            bail!(
                "the system call {name} is missing: pods need Linux {version} or later, and no filter that hides it"
            );
        }
    }
    Ok(())
}

/// Whether programs can be made that restrict a cgroup's devices: the only way to do that in the unified hierarchy.
pub fn has_device_programs() -> io::Result<bool> {
    match sys::load_device_program() {
        Ok(_) => Ok(true),
        // Not there: ENOSYS the call, EINVAL this kind of program. Not for this process: EPERM.
        Err(err) => match err.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL | libc::EPERM) => Ok(false),
            _ => Err(err),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_and_missed() {
        check().unwrap();
        // Numbers that Linux has given to no call of this architecture, and will not (arch/x86/entry/syscalls).
        assert!(!sys::has_call(400));
    }
}
