//! Carries what is typed to the app, and what the app says to the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::termios::{isatty, tcgetwinsize};

use super::keys::Keys;
use crate::terminal::Raw;

/// How much is carried at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Signals that end the attachment; besides them one tells of a new size.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Which of the caller's streams output of the app goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    Stderr,
    Nowhere,
}

/// What is carried.
#[derive(Default)]
pub(super) struct Relay {
    /// Where what is typed goes, as long as the app takes it.
    pub(super) input: Option<Rc<OwnedFd>>,
    /// Where the app's output comes from, and goes to.
    pub(super) outputs: Vec<(Rc<OwnedFd>, To)>,
    /// Where the size of the caller's terminal is told.
    pub(super) size: Option<OwnedFd>,
    /// The keys that end it, when every key is handed on.
    pub(super) keys: Option<Keys>,
    /// What was typed and is not taken yet.
    pub(super) typed: Vec<u8>,
    /// Nothing more is typed.
    pub(super) typed_all: bool,
}

/// How it has ended.
pub(super) enum End {
    /// The app's streams are over.
    Streams,
    /// The caller wants no more, and this program is to end with this status.
    Caller(ExitCode),
}

#[derive(Clone, Copy)]
enum What {
    Signal,
    Typed,
    Input,
    Output(usize),
}

impl Relay {
    /// Carries until the app's streams are over, or the caller wants no more.
    pub(super) fn run(mut self) -> Result<End> {
        let set: SigSet = ENDS.into_iter().chain([Signal::SIGWINCH]).collect();
        set.thread_block().context("hold back signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("take signals")?;
        let _raw = self.keys.as_ref().map(|_| Raw::new()).transpose()?;
        self.tell_size();
        let mut buffer = vec![0; CHUNK];
        // A terminal's input is over when its output is.
        let shows = !self.outputs.is_empty();
        while !self.outputs.is_empty() || (!shows && self.input.is_some()) {
            for (what, flags) in self.wait(&signals)? {
                let end = match what {
                    What::Signal => self.signal(&signals)?,
                    What::Typed => self.read(&mut buffer)?,
                    What::Input => self.serve_input(flags),
                    What::Output(number) => self.show(number, &mut buffer)?,
                };
                if let Some(end) = end {
                    return Ok(end);
                }
            }
        }
        Ok(End::Streams)
    }

    /// Waits for something to do. At most one output is named, as their numbers change.
    fn wait(&self, signals: &SignalFd) -> Result<Vec<(What, PollFlags)>> {
        let mut whats = vec![What::Signal];
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(input) = &self.input {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::OUT, !self.typed.is_empty());
            // Who serves it sends nothing there but its end, the terminal apart.
            flags.set(PollFlags::IN, !self.is_shared(input));
            whats.push(What::Input);
            fds.push(PollFd::new(&**input, flags));
            if self.typed.is_empty() && !self.typed_all {
                whats.push(What::Typed);
                let stdin = rustix::stdio::stdin();
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
        }
        for (number, (output, _)) in self.outputs.iter().enumerate() {
            whats.push(What::Output(number));
            fds.push(PollFd::new(&**output, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err).context("wait for something to carry"),
        }
        let ready = whats.into_iter().zip(fds.iter().map(PollFd::revents));
        let mut ready: Vec<_> = ready.filter(|(_, flags)| !flags.is_empty()).collect();
        let is_output = |what: &What| matches!(what, What::Output(_));
        if let Some(first) = ready.iter().position(|(what, _)| is_output(what)) {
            ready.truncate(first + 1);
        }
        Ok(ready)
    }

    fn is_shared(&self, input: &Rc<OwnedFd>) -> bool {
        self.outputs
            .iter()
            .any(|(output, _)| Rc::ptr_eq(output, input))
    }

    fn signal(&self, signals: &SignalFd) -> Result<Option<End>> {
        let Some(info) = signals.read_signal().context("read a signal")? else {
            return Ok(None);
        };
        if info.ssi_signo == Signal::SIGWINCH as u32 {
            self.tell_size();
            return Ok(None);
        }
        let status = u8::try_from(128 + info.ssi_signo).unwrap_or(u8::MAX);
        Ok(Some(End::Caller(ExitCode::from(status))))
    }

    /// Gives the app's terminal the size of the caller's.
    fn tell_size(&self) {
        let Some(socket) = &self.size else {
            return;
        };
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let terminal = if isatty(stdin) { stdin } else { stdout };
        // A terminal that is gone has no size, and is noticed elsewhere, as is the app's end.
        if let Ok(size) = tcgetwinsize(terminal) {
            let text = format!("{} {}", size.ws_row, size.ws_col);
            let _ = send(socket, text.as_bytes(), SendFlags::NOSIGNAL);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<End>> {
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // EIO: the terminal is gone.
            Err(Errno::IO) => 0,
            Err(err) => return Err(err).context("read standard input"),
        };
        let detach = match &mut self.keys {
            Some(keys) => keys.take(&buffer[..count], &mut self.typed),
            None => {
                self.typed.extend_from_slice(&buffer[..count]);
                false
            }
        };
        self.typed_all = count == 0;
        self.give();
        Ok(detach.then_some(End::Caller(ExitCode::SUCCESS)))
    }

    /// The app takes something, or no more.
    fn serve_input(&mut self, flags: PollFlags) -> Option<End> {
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.input = None;
            return None;
        }
        self.give();
        None
    }

    /// Hands over what was typed. At its end the app is told, and the connection stays: who closes it has only gone away.
    fn give(&mut self) {
        let Some(input) = &self.input else {
            return;
        };
        while !self.typed.is_empty() {
            match send(
                &**input,
                &self.typed,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.typed.clear();
                    self.input = None;
                    return;
                }
            }
        }
        if self.typed_all {
            // It fails where the other side is gone, which is seen elsewhere.
            let _ = shutdown(&**input, Shutdown::Write);
        }
    }

    /// Shows what the app says, or notes that this is over.
    fn show(&mut self, number: usize, buffer: &mut [u8]) -> Result<Option<End>> {
        let (output, to) = &self.outputs[number];
        match rustix::io::read(&**output, &mut *buffer) {
            Ok(count) if count > 0 => write(*to, &buffer[..count])?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => drop(self.outputs.remove(number)),
        }
        Ok(None)
    }
}

fn write(to: To, mut bytes: &[u8]) -> Result<()> {
    let (name, fd): (_, BorrowedFd<'_>) = match to {
        To::Stdout => ("standard output", rustix::stdio::stdout()),
        To::Stderr => ("standard error", rustix::stdio::stderr()),
        To::Nowhere => return Ok(()),
    };
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
                let _ = poll(&mut fds, None);
            }
            Err(err) => return Err(err).with_context(|| format!("write to {name}")),
        }
    }
    Ok(())
}
