//! The lock on a pod directory, by which one knows that the pod runs: stage0 takes it, and the pod's supervisor holds it
//! to the end of the pod.

use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whether somebody holds the lock on the directory `fd` exclusively.
pub fn is_held(fd: impl AsFd) -> rustix::io::Result<bool> {
    match flock(&fd, FlockOperation::NonBlockingLockShared) {
        Ok(()) => flock(&fd, FlockOperation::Unlock).map(|()| false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(err) => Err(err),
    }
}
