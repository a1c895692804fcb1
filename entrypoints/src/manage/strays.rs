//! Processes that use an app's root and are in none of its cgroups any more: of an app that may write to cgroups, or moved
//! by somebody on the host. systemd does not know them as the app's.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::supervisor::wait;

/// How long they may go on to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills them. The app has been stopped, and nobody may use its root when it is taken away.
pub(super) fn kill(app: &str, root: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = using(root)?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("app {app}: its processes cannot be killed as fast as they start others");
        }
        for (pid, process) in found {
            match pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(err) => return Err(err).with_context(|| format!("kill process {pid}")),
            }
            wait(&process, None)?;
        }
    }
}

/// The processes whose root is the directory `root`.
fn using(root: &Path) -> Result<Vec<(i32, OwnedFd)>> {
    let identity = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let Some(root) = identity(root) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry.context("list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Held first: when it is another process by the time of the look, this one is gone and nobody is killed.
        let process = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(process)) = process else {
            continue;
        };
        if identity(&Path::new("/proc").join(name).join("root")) == Some(root) {
            found.push((pid, process));
        }
    }
    Ok(found)
}
