//! Mounting in a running pod from the host: with the host's descriptors and rights, in the pod's mount namespace.
//!
//! It needs neither mounts that are shared between host and pod nor a pod without user namespace.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use common::pod::StageRoot;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

/// Runs `work` in the mount namespace of a process, whose root is its root. Only a thread goes there: this process stays
/// where it is.
pub(crate) fn in_mounts_of<T: Send>(
    process: &OwnedFd,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let there = || {
        // A thread that shares root and working directory with others may not change its mount namespace (setns(2)).
        unshare(CloneFlags::CLONE_FS).context("have a working directory of the thread's own")?;
        setns(process, CloneFlags::CLONE_NEWNS).context("join the pod's mount namespace")?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(there).join())
        .map_err(|_| anyhow!("the thread in the pod's mount namespace has died"))?
}

/// Waits for the turn among those who change what the pod has of its apps, on the host or in the pod: one that was killed
/// on the host may have left a program that goes on in the pod.
pub(crate) fn turn_to_change(root: &StageRoot) -> Result<File> {
    let path = root.envs();
    let context = || format!("lock {}", path.display());
    let dir = File::open(&path).with_context(context)?;
    flock(&dir, FlockOperation::LockExclusive).with_context(context)?;
    Ok(dir)
}

/// Attaches a detached mount at `target`, which is there.
pub(crate) fn attach(source: impl AsFd, target: &Path) -> Result<()> {
    move_mount(
        source,
        c"",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .with_context(|| format!("mount at {} of the pod", target.display()))
}

/// Takes away all that is mounted at `target`.
pub(crate) fn detach(target: &Path) -> Result<()> {
    loop {
        match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point (any more), or not there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(err) => {
                return Err(err)
                    .with_context(|| format!("unmount {} of the pod", target.display()));
            }
        }
    }
}
