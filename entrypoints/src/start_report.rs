//! How the start of an app tells who asked for it whether the program was executed. systemd doesn't know: it executes
//! prepare-app, and counts the app as started from then on.
//!
//! The way is a fifo in the pod, which no app sees. prepare-app has it open until the program is executed in its place,
//! when the kernel closes it; before, it says that this is the next thing to come, and afterwards, if it is still
//! there, what went wrong. The reaper of an app that has ended opens it too, so that its reader waits for
//! nothing that won't come.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};

use crate::gc::absent;

/// Where the fifos are, in the pod.
const DIR: &str = "/run/stage1";

/// What prepare-app says before it executes the program.
const EXECUTING: &str = "executing";
/// What it says first when it fails.
const FAILED: &str = "failed ";

/// The end of the fifo that tells.
#[derive(Debug, Default)]
pub(crate) struct Teller(Option<File>);

impl Teller {
    /// Opens the fifo of an app, where somebody listens.
    pub(crate) fn open(app: &str) -> Self {
        // Without a reader the system refuses to open it (fifo(7)).
        let flags = OFlags::NONBLOCK.bits().try_into().unwrap_or_default();
        let fifo = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path(app));
        Teller(fifo.ok())
    }

    /// The program is executed next.
    pub(crate) fn executing(&mut self) {
        self.tell(EXECUTING);
    }

    /// It was not, or won't be. The fifo stays open until this process ends: who listens has it stopped then, and it is
    /// to end with its own status.
    pub(crate) fn failed(mut self, why: &str) {
        self.tell(&format!("{FAILED}{}", why.replace('\n', " ")));
        std::mem::forget(self);
    }

    /// The app has ended.
    pub(crate) fn ended(&mut self) {
        self.tell("ended");
    }

    fn tell(&mut self, line: &str) {
        if let Some(fifo) = &mut self.0 {
            // Who does not listen any more needs no telling.
            let _ = writeln!(fifo, "{line}");
        }
    }
}

/// The end of the fifo that listens. Dropped, the fifo is removed.
#[derive(Debug)]
pub(crate) struct Listener {
    path: PathBuf,
    fifo: File,
}

impl Listener {
    /// Makes the fifo of an app. One at a time: see [`lock`].
    pub(crate) fn new(app: &str) -> Result<Self> {
        let path = path(app);
        let context = || format!("make {}", path.display());
        absent(fs::remove_file(&path)).with_context(context)?;
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).with_context(context)?;
        let flags = OFlags::NONBLOCK.bits().try_into()?;
        let fifo = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Listener { path, fifo })
    }

    /// Waits until somebody has told something and has closed the fifo; says whether that was so within `time`.
    pub(crate) fn wait(&self, time: Duration) -> Result<bool> {
        let time = Timespec::try_from(time).context("wait for the app's start")?;
        // A hang-up is seen once there was a writer (pipe_poll in the kernel), and always asked for.
        let mut fds = [PollFd::new(&self.fifo, PollFlags::empty())];
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            ready => Ok(ready.context("wait for the app's start")? > 0),
        }
    }

    /// What was told.
    pub(crate) fn told(&mut self) -> Result<Told> {
        let mut text = Vec::new();
        match self.fifo.read_to_end(&mut text) {
            // Read as far as it goes, although a writer is there still.
            Err(err) if err.kind() != ErrorKind::WouldBlock => {
                return Err(err).with_context(|| format!("read {}", self.path.display()));
            }
            _ => {}
        }
        Ok(Told::of(&String::from_utf8_lossy(&text)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What the start of an app has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The program was executed.
    Executed,
    /// Why it was not.
    Failed(String),
    /// Nothing: prepare-app did not come that far.
    Nothing,
}

impl Told {
    fn of(text: &str) -> Self {
        let mut lines = text.lines();
        let first = lines.next();
        let executing = first == Some(EXECUTING);
        let second = if executing { lines.next() } else { first };
        match second.and_then(|line| line.strip_prefix(FAILED)) {
            Some(why) => Told::Failed(why.to_owned()),
            None if executing => Told::Executed,
            None => Told::Nothing,
        }
    }
}

/// Waits for the turn among those who start the app.
pub(crate) fn lock(app: &str) -> Result<File> {
    fs::create_dir_all(DIR).with_context(|| format!("make {DIR}"))?;
    let path = Path::new(DIR).join(format!("{app}.lock"));
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// All that this leaves of an app.
pub(crate) fn files(app: &str) -> [PathBuf; 2] {
    [path(app), Path::new(DIR).join(format!("{app}.lock"))]
}

fn path(app: &str) -> PathBuf {
    Path::new(DIR).join(format!("{app}.start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told() {
        assert_eq!(Told::of("executing\n"), Told::Executed);
        // Its end is none of the start's business.
        assert_eq!(Told::of("executing\nended\n"), Told::Executed);
        assert_eq!(
            Told::of("executing\nfailed why\n"),
            Told::Failed("why".into())
        );
        assert_eq!(Told::of("failed why\n"), Told::Failed("why".into()));
        assert_eq!(Told::of(""), Told::Nothing);
        assert_eq!(Told::of("ended\n"), Told::Nothing);
    }
}
