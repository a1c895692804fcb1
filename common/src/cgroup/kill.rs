//! Killing all processes of a cgroup, whatever they do meanwhile.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Hierarchies;

/// How long processes may take to freeze: one that waits for a disk does not freeze before that is done.
const FREEZE_TIME: Duration = Duration::from_secs(1);
/// How often the freezer of v1 is looked at meanwhile: there the kernel tells nobody.
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
        loop {
            let processes = self.processes(path);
            if processes.is_empty() {
                return Ok(());
            }
            let frozen = self.frozen(path, !whole);
            let dying = self.kill_each(path)?;
            drop(frozen);
            for pidfd in dying {
                let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
                poll(&mut fds, None).context("wait for a killed process")?;
            }
        }
    }

    /// Freezes the cgroup, if asked to: by the unified hierarchy, else by the controller of v1. The host's systemd makes no
    /// cgroups of that controller; there the one of `pids` keeps processes from forking, and they are met as they run.
    ///
    /// What is frozen by the controller is thawed afterwards whoever has frozen it: a signal waits for that.
    fn frozen(&self, path: &Path, freeze: bool) -> Vec<Frozen> {
        let of_v1 = |name: &str| {
            let mut with = self.0.iter();
            let with = with.find(|h| h.controllers.iter().any(|c| c == name));
            with.map(|h| h.dir(path))
        };
        let unified = self.0.iter().find(|h| h.is_unified()).map(|h| h.dir(path));
        let freezer = of_v1("freezer");
        let mut held = Vec::new();
        if freeze {
            let unified = unified.and_then(|dir| Frozen::unified(&dir));
            let frozen = unified.or_else(|| Frozen::by_controller(freezer.as_deref()?));
            held.extend(frozen.or_else(|| Frozen::without_forks(&of_v1("pids")?)));
        }
        held.extend(freezer.map(|dir| Frozen::by_somebody(&dir)));
        held
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

/// A cgroup whose processes are kept from something until this is dropped.
struct Frozen {
    file: PathBuf,
    /// What is written to it then.
    thaw: String,
}

impl Frozen {
    /// Freezes a cgroup of the unified hierarchy (cgroup-v2.rst, `cgroup.freeze`); nothing if it is not there.
    fn unified(dir: &Path) -> Option<Self> {
        let frozen = Frozen {
            file: dir.join("cgroup.freeze"),
            thaw: "0".into(),
        };
        fs::write(&frozen.file, "1").ok()?;
        let _ = wait_for_frozen(&dir.join("cgroup.events"));
        Some(frozen)
    }

    /// Freezes a v1 cgroup; nothing if it is not there.
    fn by_controller(dir: &Path) -> Option<Self> {
        let frozen = Frozen::by_somebody(dir);
        fs::write(&frozen.file, "FROZEN").ok()?;
        let end = Instant::now() + FREEZE_TIME;
        let is_frozen =
            || fs::read_to_string(&frozen.file).is_ok_and(|text| text.trim() == "FROZEN");
        while !is_frozen() && Instant::now() < end {
            std::thread::sleep(LOOK_AGAIN);
        }
        Some(frozen)
    }

    /// A v1 cgroup that may be frozen.
    fn by_somebody(dir: &Path) -> Self {
        Frozen {
            file: dir.join("freezer.state"),
            thaw: "THAWED".into(),
        }
    }

    /// Lets the processes of a v1 cgroup have no more than they are; nothing if it is not there.
    fn without_forks(dir: &Path) -> Option<Self> {
        let file = dir.join("pids.max");
        let thaw = fs::read_to_string(&file).ok()?.trim().to_owned();
        fs::write(&file, "0").ok()?;
        Some(Frozen { file, thaw })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails only for a cgroup that is gone.
        let _ = fs::write(&self.file, &self.thaw);
    }
}

/// Waits until a cgroup's events say that it is frozen, each change of which the kernel tells to whoever polls the file.
fn wait_for_frozen(events: &Path) -> io::Result<()> {
    let mut events = File::open(events)?;
    let end = Instant::now() + FREEZE_TIME;
    loop {
        let mut text = String::new();
        events.seek(SeekFrom::Start(0))?;
        events.read_to_string(&mut text)?;
        let left = end.saturating_duration_since(Instant::now());
        if text.lines().any(|line| line == "frozen 1") || left.is_zero() {
            return Ok(());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        retry_on_intr(|| {
            let mut fds = [PollFd::new(&events, PollFlags::PRI)];
            poll(&mut fds, Some(&left))
        })?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A process of the kernel's own unified hierarchy, where root can make one.
    #[test]
    fn processes_are_frozen_and_thawed() {
        let real = Hierarchies::read(Path::new("/proc")).unwrap();
        let unified = real.0.into_iter().filter(|h| h.is_unified()).collect();
        let unified = Hierarchies(unified);
        let path = PathBuf::from(format!("/cgroup-test-freeze-{}", std::process::id()));
        let dir = unified.0.first().map(|h| h.dir(&path));
        let Some(dir) = dir.filter(|dir| fs::create_dir(dir).is_ok()) else {
            eprintln!("skipped: only root can make cgroups, and only where version 2 is mounted");
            return;
        };
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let moved = fs::write(dir.join("cgroup.procs"), child.id().to_string());
        let events = || fs::read_to_string(dir.join("cgroup.events")).unwrap();
        let frozen = unified.frozen(&path, true);
        let while_frozen = events();
        drop(frozen);
        let thawed = fs::read_to_string(dir.join("cgroup.freeze")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        unified.remove(&path).unwrap();
        moved.unwrap();
        assert!(while_frozen.contains("populated 1"), "{while_frozen}");
        assert!(while_frozen.contains("frozen 1"), "{while_frozen}");
        assert_eq!(thawed, "0\n");
    }
}
