//! Terminals: one that is made for a program in an app, and the caller's, as far as it is changed for that.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat, major, minor};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// The number of `/dev/ptmx` (admin-guide/devices.txt of the kernel).
const PTMX: (u32, u32) = (5, 2);

/// A terminal in the app whose root this process has.
pub(crate) struct Pair {
    /// The side that sees all that is written. It does not block.
    pub(crate) master: OwnedFd,
    /// The side of the app.
    pub(crate) slave: OwnedFd,
}

/// Makes a terminal of `uid` in this process's mount namespace, and takes it for the controlling terminal of this session,
/// which must have none.
pub(crate) fn make(uid: u32, size: Winsize) -> Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master =
        rustix::fs::open("/dev/ptmx", flags, Mode::empty()).context("open /dev/ptmx of the app")?;
    let stat = fstat(&master)?;
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || device != PTMX {
        bail!("/dev/ptmx of the app is another file: restore it, or go without a terminal");
    }
    unlockpt(&master).context("unlock it")?;
    // Not by a path, at which the app could have put another.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).context("open its other side")?;
    tcsetwinsize(&master, size).context("set its size")?;
    // As login(1) does it: the group stays that of terminals.
    fchown(&slave, Some(Uid::from_raw(uid)), None).context("give it to the app's user")?;
    ioctl_tiocsctty(&slave).context("make it the controlling terminal")?;
    Ok(Pair { master, slave })
}

/// The caller's terminal, standard input, handing on every key. Dropped, it is as it was.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Begins.
    pub(crate) fn new() -> Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin()).context("read the terminal's mode")?;
        let raw = Self { before };
        raw.resume()?;
        Ok(raw)
    }

    /// Has the terminal hand on every key.
    pub(crate) fn resume(&self) -> Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        set_mode(&raw).context("set the terminal's mode")
    }

    /// Has the terminal be as it was.
    pub(crate) fn pause(&self) -> Result<()> {
        set_mode(&self.before).context("restore the terminal's mode")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Where it fails there is no terminal any more.
        let _ = self.pause();
    }
}

fn set_mode(mode: &Termios) -> rustix::io::Result<()> {
    tcsetattr(rustix::stdio::stdin().as_fd(), OptionalActions::Drain, mode)
}
