//! Carries what is typed to the terminal in the pod, and what it shows to the caller's.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::terminal::Raw;

/// How long the terminal may still show something after the command's end, when others hold it open.
const REST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The two terminals.
pub(super) struct Relay {
    /// The master side of the terminal in the pod.
    master: OwnedFd,
    /// What was typed and is not taken yet.
    typed: Vec<u8>,
    /// Whether the caller's terminal can still give something.
    open: bool,
    /// The caller's terminal.
    raw: Raw,
}

impl Relay {
    /// Begins: the caller's terminal hands on every key.
    pub(super) fn new(master: OwnedFd) -> Result<Self> {
        let relay = Relay {
            master,
            typed: Vec::new(),
            open: true,
            raw: Raw::new()?,
        };
        relay.resize();
        Ok(relay)
    }

    /// Has the caller's terminal hand on every key, and the one in the pod be of its size.
    pub(super) fn resume(&self) -> Result<()> {
        self.raw.resume()?;
        self.resize();
        Ok(())
    }

    /// Has the caller's terminal be as it was.
    pub(super) fn pause(&self) -> Result<()> {
        self.raw.pause()
    }

    /// Gives the terminal in the pod the size of the caller's.
    pub(super) fn resize(&self) {
        // A terminal that is gone has no size, and is noticed elsewhere.
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for: the terminal in the pod, and the caller's.
    pub(super) fn waits(&self) -> [PollFd<'_>; 2] {
        let (mut master, mut stdin) = (PollFlags::IN, PollFlags::empty());
        master.set(PollFlags::OUT, !self.typed.is_empty());
        stdin.set(PollFlags::IN, self.open && self.typed.is_empty());
        let keyboard = rustix::stdio::stdin();
        [
            PollFd::new(&self.master, master),
            PollFd::from_borrowed_fd(keyboard, stdin),
        ]
    }

    /// Carries what there is. Says whether the terminal in the pod is still open.
    pub(super) fn carry(&mut self, master: PollFlags, stdin: PollFlags) -> Result<bool> {
        let mut buffer = [0; 4096];
        if stdin.contains(PollFlags::IN) {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => self.typed.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.open = false,
            }
        } else if !stdin.is_empty() {
            self.open = false;
        }
        if !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.typed.clear(),
            }
        }
        if !master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(true);
        }
        self.show()
    }

    /// Shows what the terminal in the pod has. Says whether it is still open.
    fn show(&self) -> Result<bool> {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                let mut rest = &buffer[..count];
                while !rest.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(Errno::INTR) => {}
                        Err(err) => return Err(err).context("write to standard output"),
                    }
                }
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            // EIO: nobody has the other side open any more.
            Err(_) => Ok(false),
        }
    }

    /// Shows what is left after the command's end.
    pub(super) fn finish(&self) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            match poll(&mut fds, Some(&REST)) {
                Ok(0) => return Ok(()),
                Ok(_) if self.show()? => {}
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(err) => return Err(err).context("wait for the terminal"),
            }
        }
    }
}
