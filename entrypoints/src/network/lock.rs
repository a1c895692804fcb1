//! The lock on the networks of a pod, for each call of a plugin. The plugin has it too, with whatever it calls itself: a
//! plugin that outlives its caller, which was killed, is waited for by who undoes what it does.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::pod::PodDir;
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// The lock. Dropped, it stays with the processes that have it too.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock of the pod in `dir`.
    ///
    /// # Errors
    /// When a plugin has it for longer than `patience`.
    pub(super) fn take(dir: &PodDir, patience: Duration) -> Result<Self> {
        let path = dir.net_lock();
        let context = || format!("lock {}", path.display());
        let file = File::create(&path).with_context(context)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            Err(Errno::WOULDBLOCK) => {}
            Err(err) => return Err(err).with_context(context),
        }
        // The call knows no time limit. A thread whose wait is given up ends with the process, which fails now.
        let (tell, told) = mpsc::channel();
        let copy = file.try_clone().with_context(context)?;
        thread::spawn(move || tell.send(flock(&copy, FlockOperation::LockExclusive)));
        match told.recv_timeout(patience) {
            Ok(locked) => locked.with_context(context)?,
            Err(_) => bail!(
                "a plugin that was called before has not ended within {} s",
                patience.as_secs()
            ),
        }
        Ok(Lock(file))
    }

    /// Starts a process that has the lock too.
    pub(super) fn sharing<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        fcntl_setfd(&self.0, FdFlags::empty())?;
        let started = start();
        fcntl_setfd(&self.0, FdFlags::CLOEXEC)?;
        started
    }

    /// Gives it up for all that have it: what a plugin leaves running keeps nobody waiting.
    pub(super) fn release(self) -> Result<()> {
        flock(&self.0, FlockOperation::Unlock).context("unlock the pod's networks")
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_outlives_the_holder_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = PodDir::new(dir.path());
        let held = || Lock::take(&dir, Duration::ZERO);
        let reader = |lock: &Lock| {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped());
            lock.sharing(|| command.spawn()).unwrap()
        };
        let lock = held().unwrap();
        let mut plugin = reader(&lock);
        drop(lock);
        let error = held().unwrap_err().to_string();
        assert_eq!(
            error,
            "a plugin that was called before has not ended within 0 s"
        );
        drop(plugin.stdin.take());
        plugin.wait().unwrap();
        // The thread of the try that failed has it for an instant, now or later.
        let in_time = || Lock::take(&dir, Duration::from_secs(60)).unwrap();
        let lock = in_time();
        let mut left_running = reader(&lock);
        lock.release().unwrap();
        in_time().release().unwrap();
        drop(left_running.stdin.take());
        left_running.wait().unwrap();
    }
}
