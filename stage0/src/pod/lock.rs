//! The locks on pod directories: `flock(2)`, kept by everybody who has inherited the descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
pub use common::lock::is_held;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};

/// A held lock on a directory, or on a file. It falls when this and all inherited descriptors are closed.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Lock {
    /// Locks `dir`, waiting for others.
    pub fn exclusive(dir: &Path) -> Result<Self> {
        let fd = open(dir)?;
        retry_on_intr(|| flock(&fd, FlockOperation::LockExclusive))
            .with_context(|| format!("lock {}", dir.display()))?;
        Ok(Self(fd))
    }

    /// Locks a file that is there for nothing else, waiting for others.
    pub fn of_file(file: &Path) -> Result<Self> {
        let context = || format!("lock {}", file.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(file, flags, Mode::empty()).with_context(context)?;
        retry_on_intr(|| flock(&fd, FlockOperation::LockExclusive)).with_context(context)?;
        Ok(Self(fd))
    }

    /// Locks `dir`, or says that somebody else has it locked.
    pub fn try_exclusive(dir: &Path) -> Result<Option<Self>> {
        let fd = open(dir)?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(fd))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("lock {}", dir.display())),
        }
    }

    /// Locks `dir` unless somebody else holds it exclusively. The moments in which commands look at a lock
    /// ([`is_held`]) are waited for: they are shared locks.
    pub fn unless_held(dir: &Path) -> Result<Option<Self>> {
        let fd = open(dir)?;
        if is_held(&fd).with_context(|| format!("lock {}", dir.display()))? {
            return Ok(None);
        }
        retry_on_intr(|| flock(&fd, FlockOperation::LockExclusive))
            .with_context(|| format!("lock {}", dir.display()))?;
        Ok(Some(Self(fd)))
    }

    /// The number of the descriptor, which from now on survives an exec.
    pub fn inherit(&self) -> Result<i32> {
        fcntl_setfd(&self.0, FdFlags::empty()).context("let the lock survive exec")?;
        Ok(self.0.as_raw_fd())
    }

    /// Undoes [`Lock::inherit`].
    pub fn disinherit(&self) {
        // Fails only for a descriptor that is not open.
        let _ = fcntl_setfd(&self.0, FdFlags::CLOEXEC);
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until nobody holds the lock on the directory `fd` exclusively.
pub fn wait_until_free(fd: impl AsFd) -> rustix::io::Result<()> {
    retry_on_intr(|| flock(&fd, FlockOperation::LockShared))?;
    flock(&fd, FlockOperation::Unlock)
}

fn open(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_and_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let probe = open(dir.path()).unwrap();
        assert!(!is_held(&probe).unwrap());
        let lock = Lock::try_exclusive(dir.path()).unwrap().unwrap();
        assert!(is_held(&probe).unwrap());
        assert!(Lock::try_exclusive(dir.path()).unwrap().is_none());
        assert!(Lock::unless_held(dir.path()).unwrap().is_none());
        drop(lock);
        wait_until_free(&probe).unwrap();
        assert!(Lock::unless_held(dir.path()).unwrap().is_some());
        assert!(!is_held(&probe).unwrap());
    }

    #[test]
    fn looking_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let probe = open(dir.path()).unwrap();
        is_held(&probe).unwrap();
        assert!(Lock::try_exclusive(dir.path()).unwrap().is_some());
    }
}
