//! The network namespace of a pod, pinned by a mount under a name, as ip-netns(8) does it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use crate::gc::absent;

/// Every port of the network namespace is one that all may listen on: the rights of a pod with a user namespace hold for
/// none that was made outside of it.
const ALL_PORTS: (&str, &str) = ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");

/// Makes a network namespace at `path`, with loopback up, for a pod that may have a user namespace.
///
/// # Errors
/// When something is there.
pub(super) fn make(path: &Path, users: bool) -> Result<()> {
    let context = || format!("make network namespace {}", path.display());
    let folder = path.parent().context("no folder").with_context(context)?;
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .with_context(context)?;
    File::create_new(path).with_context(context)?;
    // A thread of its own: this process stays in the host's network, and so do the plugins.
    let made = thread::scope(|scope| scope.spawn(|| pin(path, users)).join());
    made.map_err(|_| anyhow!("the thread has panicked"))
        .and_then(|made| made)
        .with_context(context)
}

fn pin(path: &Path, users: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    common::sys::loopback_up().context("bring loopback up")?;
    if users {
        let (file, value) = ALL_PORTS;
        fs::write(file, value).with_context(|| format!("write {value} to {file}"))?;
    }
    mount_bind("/proc/thread-self/ns/net", path).context("mount it")
}

/// A network namespace that this process, which has one thread, has left. Dropped, the process goes back.
pub(crate) struct Left(File);

/// Moves this process into the network namespace at `path`.
///
/// # Errors
/// When it is none.
pub(crate) fn join(path: &Path) -> Result<Left> {
    let join = || {
        let left = Left(File::open("/proc/self/ns/net")?);
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        anyhow::Ok(left)
    };
    join().with_context(|| format!("join network namespace {}", path.display()))
}

impl Drop for Left {
    fn drop(&mut self) {
        // This is the way back from an error already.
        let _ = setns(&self.0, CloneFlags::CLONE_NEWNET);
    }
}

/// Looks whether a path is that of a network namespace.
///
/// # Errors
/// When it is not.
pub(super) fn is_namespace(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    // A thread of its own tries it.
    let entered = thread::scope(|scope| {
        let enter = scope.spawn(|| setns(&file, CloneFlags::CLONE_NEWNET));
        enter.join()
    });
    let entered = entered.map_err(|_| anyhow!("the thread has panicked"))?;
    entered.context("is not a network namespace that can be entered")
}

/// Removes what [`make`] has made, or what is there of it. The namespace itself lives as long as processes are in it.
///
/// # Errors
/// When it cannot be unmounted or deleted.
pub(super) fn remove(path: &Path) -> Result<()> {
    let context = || format!("remove network namespace {}", path.display());
    match unmount(path, UnmountFlags::DETACH) {
        // INVAL: nothing is mounted there, as in another mount namespace, or after a start that was killed.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(err) => return Err(err).with_context(context),
    }
    match absent(fs::remove_file(path)) {
        // The folder was bound over itself since, as ip-netns(8) does first of all: what was mounted before is still there.
        Err(err) if err.kind() == ErrorKind::ResourceBusy => {
            thread::scope(|scope| scope.spawn(|| remove_covered(path)).join())
                .map_err(|_| anyhow!("the thread has panicked"))
                .and_then(|removed| removed)
        }
        removed => removed.map_err(Into::into),
    }
    .with_context(context)
}

/// Removes a file on which something is mounted that others cover, in a mount namespace of this thread's own without all
/// of them: a file that is no mount point there is deleted, and the kernel unmounts it everywhere else.
fn remove_covered(path: &Path) -> Result<()> {
    let folder = path.parent().context("no folder")?;
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).context("keep mounts to itself")?;
    loop {
        match absent(fs::remove_file(path)) {
            Err(err) if err.kind() == ErrorKind::ResourceBusy => {}
            removed => return Ok(removed?),
        }
        if unmount(path, UnmountFlags::DETACH).is_err() {
            unmount(folder, UnmountFlags::DETACH)
                .with_context(|| format!("unmount {}", folder.display()))?;
        }
    }
}
