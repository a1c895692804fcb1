//! Following a pod's journal until the pod has ended.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::root::Root;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::query::Query;
use super::{Show, Source};
use crate::pod::{State, wait};

/// How long a pod may take to make its journal: as long as it likes.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Shows all that comes, until the pod has ended and all of it was shown.
pub(super) fn run(query: &mut Query<'_>, show: &mut Show) -> Result<()> {
    // Without --merge, --follow is for one boot only, and fails while there is no entry of it.
    let mut reading = query.start(&["--follow", "--no-tail", "--merge"])?;
    let child = Pid::from_child(&reading.child);
    let child = pidfd_open(child, PidfdFlags::empty()).context("watch journalctl")?;
    let (pods, proc) = (query.source.pods.clone(), query.source.proc.to_owned());
    let uuid = query.source.seen.pod.uuid.clone();
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    // A thread that is left when the reader of our output goes away, and ends with this process.
    std::thread::spawn(move || {
        // An error means that it has been removed.
        let _ = wait::until_ended(&pods, &uuid, &proc);
        told.store(true, Ordering::Release);
        // Fails when it has ended.
        let _ = pidfd_send_signal(&child, Signal::TERM);
    });
    query.read(&mut reading, show)?;
    if ended.load(Ordering::Acquire) {
        drop(reading);
        // All that was written before the end, of which journalctl may not have told.
        return query.rest(show);
    }
    reading.finish()?;
    bail!("journalctl: has ended before the pod")
}

/// Waits until the pod has a journal; or has ended, perhaps without one.
pub(super) fn until_journal(source: &mut Source<'_>) -> Result<()> {
    let uuid = source.seen.pod.uuid.clone();
    let may_run = || -> Result<bool> {
        let seen = source.pods.look(&uuid, source.proc)?;
        Ok(seen.is_some_and(|seen| {
            !matches!(seen.state, State::Exited | State::Aborted | State::Deleting)
        }))
    };
    let (path, mut there) = (source.folder_path(), PathBuf::new());
    for part in path.components() {
        let Some(root) = source.root() else {
            return Ok(());
        };
        let Ok(dir) = open_dir(&root, &there) else {
            return Ok(());
        };
        there.push(part);
        let dir = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let holds = || open_dir(&root, &there).is_ok();
        let end = Instant::now() + FOR_EVER;
        if wait::until(Path::new(&dir), holds, may_run, end).is_err() && !holds() {
            break;
        }
    }
    source.folder = source.open_folder()?;
    Ok(())
}

fn open_dir(root: &Root, path: &Path) -> rustix::io::Result<rustix::fd::OwnedFd> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    root.open_at(path, OFlags::PATH | OFlags::DIRECTORY)
}
