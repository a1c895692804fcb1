//! Waiting for conditions, each with a bound: never for a time.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

/// Until a path exists (symbolic links are not followed), or the time is up.
///
/// # Errors
/// Also when the directory that should hold it does not exist.
pub fn for_path(path: &Path, bound: Option<Duration>) -> Result<()> {
    for_file(path, bound, |path| path.symlink_metadata().is_ok())
}

/// Until something holds of a file, checked whenever an entry of its directory changes.
pub fn for_file(path: &Path, bound: Option<Duration>, holds: impl Fn(&Path) -> bool) -> Result<()> {
    let dir = path.parent().context("path without a directory")?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .context("inotify")?;
    let changes = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, dir, changes).with_context(|| format!("watch {}", dir.display()))?;
    let end = bound.map(|bound| Instant::now() + bound);
    let mut buffer = [0; 4096];
    while !holds(path) {
        if !readable(watch.as_fd(), end)? {
            bail!("waited in vain for {}", path.display());
        }
        // What the events say does not matter, only that they are taken.
        let _ = rustix::io::read(&watch, &mut buffer);
    }
    Ok(())
}

/// Until something holds of a file that is there, checked whenever it is written to.
pub fn for_written(
    file: &Path,
    bound: Option<Duration>,
    holds: impl Fn(&Path) -> bool,
) -> Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .context("inotify")?;
    inotify::add_watch(&watch, file, inotify::WatchFlags::MODIFY)
        .with_context(|| format!("watch {}", file.display()))?;
    let end = bound.map(|bound| Instant::now() + bound);
    let mut buffer = [0; 4096];
    while !holds(file) {
        if !readable(watch.as_fd(), end)? {
            bail!("waited in vain for what {} is to have", file.display());
        }
        // What the events say does not matter, only that they are taken.
        let _ = rustix::io::read(&watch, &mut buffer);
    }
    Ok(())
}

/// Until a descriptor (a pipe, a pidfd, …) can be read; false when the time is up first.
pub fn readable(fd: BorrowedFd<'_>, end: Option<Instant>) -> Result<bool> {
    loop {
        let left = match end {
            None => None,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                Some(rustix::event::Timespec::try_from(left).context("time left")?)
            }
        };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}
