//! What is needed of the kernel that not every kernel has: it may be old, built without it, or hidden by a filter of system
//! calls around this process.

use std::path::Path;
use std::{fs, io};

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

/// Refuses a kernel that makes no user namespaces, by its proc file system. What is not found there forbids nothing.
pub fn check_user_namespaces(proc: &Path) -> Result<()> {
    let file = proc.join("sys/user/max_user_namespaces");
    let most = fs::read_to_string(&file).unwrap_or_default();
    if most.trim() == "0" {
        bail!(
            "user namespaces are switched off on this host: {} is 0",
            file.display()
        );
    }
    let own = proc.join("self/ns");
    if own.exists() && !own.join("user").is_symlink() {
        bail!(
            "this kernel has no user namespaces: {} lacks user",
            own.display()
        );
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

    #[test]
    fn user_namespaces_may_be_switched_off_or_missing() {
        let proc = tempfile::tempdir().unwrap();
        check_user_namespaces(proc.path()).unwrap();
        check_user_namespaces(Path::new("/proc")).unwrap();
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        let told = || check_user_namespaces(proc.path()).unwrap_err().to_string();
        assert!(told().ends_with("/self/ns lacks user"), "{}", told());
        fs::create_dir_all(proc.path().join("sys/user")).unwrap();
        fs::write(proc.path().join("sys/user/max_user_namespaces"), "0\n").unwrap();
        assert!(told().ends_with("/max_user_namespaces is 0"), "{}", told());
    }
}
