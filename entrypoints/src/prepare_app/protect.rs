//! Protection of the kernel: the paths of `/proc` and `/sys` through which root of an app could change it or learn
//! what is not the app's.
//!
//! The lists join what rkt protected, what systemd's `ProtectKernelTunables=` does and what the container runtimes of
//! today mask (the defaults of podman in Debian 12, and of runc). A path that the kernel does not have is passed over.

use std::path::Path;

use anyhow::{Context, Result};
use common::root::Root;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::mounts::{attach, clone_tree, new_mount, read_only};

/// Seen as an empty directory or an empty file.
const HIDDEN: [&str; 23] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmem",
    "/proc/latency_stats",
    "/proc/mem",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/selinux",
    "/sys/hypervisor",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/module",
    "/sys/power",
];

/// Seen as they are, and read-only; `/sys` is so as a whole.
const READ_ONLY: [&str; 7] = [
    "/proc/apm",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/mtrr",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Protects the paths in the app's root, whose `/proc`, `/sys` and `/dev` are mounted.
pub(super) fn protect(root: &Root) -> Result<()> {
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    for path in HIDDEN {
        let Some(there) = open(root, path)? else {
            continue;
        };
        let is_dir = FileType::from_raw_mode(fstat(&there)?.st_mode).is_dir();
        let cover = if is_dir {
            // A new one each time: before Linux 6.15 a mount that is nowhere yet can't be copied (EINVAL).
            new_mount("tmpfs", &[("mode", "555"), ("size", "4k")], flags)?
        } else {
            clone_tree(Path::new("/dev/null"))?
        };
        attach(&cover, root, Path::new(path)).with_context(|| format!("hide {path}"))?;
    }
    for path in READ_ONLY {
        let Some(there) = open(root, path)? else {
            continue;
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let copy = open_tree(&there, c"", flags).with_context(|| format!("copy {path}"))?;
        attach(read_only(copy)?, root, Path::new(path))
            .with_context(|| format!("protect {path}"))?;
    }
    Ok(())
}

/// What stands at `path`; `None` when there is nothing.
fn open(root: &Root, path: &str) -> Result<Option<rustix::fd::OwnedFd>> {
    match root.open_at(Path::new(path), OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("look at {path}")),
    }
}
