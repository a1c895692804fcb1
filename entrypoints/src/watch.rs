//! Waiting for changes of directories.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr};

/// Directories of which entries are waited for that come and go.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        Ok(Watch(watch.context("watch for changes")?))
    }

    /// Watches a directory, too. By its descriptor, as no link is to lead to another; again does no harm.
    pub(crate) fn add(&self, dir: impl AsFd) -> Result<()> {
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let added = inotify::add_watch(&self.0, path, events | WatchFlags::ONLYDIR);
        added.map(drop).context("watch a directory")
    }

    /// Waits until something has changed since the last time; false when it is `end` before.
    pub(crate) fn wait(&self, end: Instant) -> Result<bool> {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut fds, Some(&left))).context("wait for a change")? == 0 {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        loop {
            // What the events say does not matter, only that they are taken.
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(err) => return Err(err).context("read what has changed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::*;

    #[test]
    fn changes_in_any_of_the_directories_are_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for path in [&one, &two, &two] {
            fs::create_dir_all(path).unwrap();
            watch.add(File::open(path).unwrap()).unwrap();
        }
        let long = || Instant::now() + Duration::from_secs(300);
        assert!(!watch.wait(Instant::now()).unwrap());
        for path in [&one, &two] {
            fs::write(path.join("file"), "").unwrap();
            assert!(watch.wait(long()).unwrap());
            fs::rename(path.join("file"), path.join("other")).unwrap();
            fs::remove_file(path.join("other")).unwrap();
            assert!(watch.wait(long()).unwrap());
            assert!(!watch.wait(Instant::now()).unwrap());
        }
        assert!(watch.add(File::open("/dev/null").unwrap()).is_err());
    }
}
