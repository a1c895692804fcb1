//! Killing all processes of a cgroup, whatever they do meanwhile.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Hierarchies;

/// How long processes may take to freeze: one that waits for a disk does not freeze before that is done.
const FREEZE_TIME: Duration = Duration::from_secs(1);
/// How often the freezer is looked at meanwhile: the kernel tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Hierarchies {
    /// Kills every process in the cgroup `path` and below, in every hierarchy, and waits until they are gone.
    ///
    /// The unified hierarchy kills a cgroup as a whole (`cgroup.kill`, Linux 5.14). Elsewhere processes are killed one by
    /// one, frozen meanwhile: else one that forks and ends could get away again and again.
    pub fn kill(&self, path: &Path) -> Result<()> {
        let mut whole = false;
        for unified in self.0.iter().filter(|h| h.is_unified()) {
            whole |= kill_whole(&unified.dir(path))?;
        }
        let of_freezer = |h: &&super::Hierarchy| h.controllers.iter().any(|c| c == "freezer");
        let freezer = self.0.iter().find(of_freezer).map(|h| h.dir(path));
        loop {
            let processes = self.processes(path);
            if processes.is_empty() {
                return Ok(());
            }
            let frozen = freezer.as_deref().map(|dir| Frozen::new(dir, !whole));
            let dying = self.kill_each(path)?;
            drop(frozen);
            for pidfd in dying {
                let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
                poll(&mut fds, None).context("wait for a killed process")?;
            }
        }
    }

    /// Kills the processes that are in the cgroup now.
    fn kill_each(&self, path: &Path) -> Result<Vec<OwnedFd>> {
        let open = |number: i32| {
            let pidfd = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty());
            pidfd.ok().map(|pidfd| (number, pidfd))
        };
        let opened: Vec<_> = self.processes(path).into_iter().filter_map(open).collect();
        // A pid may have been reused before it was opened: it is the pod's only if it is still in there.
        let members = self.processes(path);
        let mut dying = Vec::new();
        for (number, pidfd) in opened {
            if !members.contains(&number) {
                continue;
            }
            match pidfd_send_signal(&pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => dying.push(pidfd),
                Err(err) => return Err(err).with_context(|| format!("kill process {number}")),
            }
        }
        Ok(dying)
    }
}

/// Kills a cgroup of the unified hierarchy as a whole; false if it is not there, or the kernel has no means to.
fn kill_whole(dir: &Path) -> Result<bool> {
    let file = dir.join("cgroup.kill");
    let opened = File::options().write(true).open(&file);
    match opened.and_then(|mut opened| opened.write_all(b"1")) {
        Ok(()) => Ok(true),
        // ENODEV: removed after it was opened.
        Err(err) if err.kind() == ErrorKind::NotFound || err.raw_os_error() == Some(NODEV) => {
            Ok(false)
        }
        Err(err) => Err(err).with_context(|| format!("write 1 to {}", file.display())),
    }
}

const NODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// A v1 cgroup whose processes do nothing until this is dropped. A signal waits for that as well, whoever has frozen the
/// cgroup.
struct Frozen(PathBuf);

impl Frozen {
    /// Freezes the cgroup, if asked to. Where that fails its processes are met as they run.
    fn new(dir: &Path, freeze: bool) -> Self {
        let state = dir.join("freezer.state");
        let end = Instant::now() + FREEZE_TIME;
        if freeze && fs::write(&state, "FROZEN").is_ok() {
            let frozen = || fs::read_to_string(&state).is_ok_and(|text| text.trim() == "FROZEN");
            while !frozen() && Instant::now() < end {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Self(state)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails only for a cgroup that is gone.
        let _ = fs::write(&self.0, "THAWED");
    }
}
