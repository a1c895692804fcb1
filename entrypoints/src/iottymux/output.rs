//! A stream of the app's output: read once, for logs and any number of clients.
//!
//! Nobody waits for a client that takes nothing: once it has been waited for for [`PATIENCE`] it gets only what is kept
//! when it takes something at last. What it has missed is counted, and it is told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::ring::{Ring, SIZE};
use super::sink::Sink;

/// How many ticks a client that has to be waited for may take less than [`STEADY`] bytes.
const PATIENCE: u32 = 40;

/// How many ticks it may take nothing when the stream is over, and nobody waits any more.
const PATIENCE_AT_END: u32 = 400;

/// What a client takes in a tick at least, if it is one to wait for, in bytes.
const STEADY: u64 = 4096;

/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// A stream of output.
pub(super) struct Output {
    /// The stream, until it is over.
    source: Option<Rc<OwnedFd>>,
    ring: Ring,
    pub(super) readers: Vec<Reader>,
}

/// Who gets the stream.
pub(super) struct Reader {
    to: To,
    /// How far it has come.
    position: u64,
    /// How far it had come at the last tick.
    before: u64,
    /// For how many ticks it has been waited for.
    waited: u32,
    /// Whether it is not waited for any more, until it has caught up.
    lags: bool,
    /// What it has missed since it was told.
    missed: u64,
    /// What it is told, as far as it has not taken that.
    notice: Vec<u8>,
    /// It is gone, or has got all.
    done: bool,
}

enum To {
    Client(Rc<OwnedFd>),
    Log(Box<dyn Sink>),
}

impl Output {
    /// A stream, which must not block.
    pub(super) fn new(source: Rc<OwnedFd>) -> Self {
        Output {
            source: Some(source),
            ring: Ring::new(),
            readers: Vec::new(),
        }
    }

    /// Has a client get what comes from now on.
    pub(super) fn add_client(&mut self, client: Rc<OwnedFd>) {
        self.add(To::Client(client));
    }

    /// Has a log get what comes from now on.
    pub(super) fn add_log(&mut self, log: Box<dyn Sink>) {
        self.add(To::Log(log));
    }

    fn add(&mut self, to: To) {
        let position = self.ring.end();
        self.readers.push(Reader {
            to,
            position,
            before: position,
            waited: 0,
            lags: false,
            missed: 0,
            notice: Vec::new(),
            done: false,
        });
    }

    /// The stream, when there is a place for what it has.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        let source = self.source.as_ref()?;
        (self.room() > 0).then(|| source.as_fd())
    }

    /// Whether there is more to come.
    pub(super) fn is_open(&self) -> bool {
        self.source.is_some()
    }

    /// Whether all is over: nothing comes, and everybody has got what came.
    pub(super) fn is_done(&self) -> bool {
        self.source.is_none() && self.readers.is_empty()
    }

    /// Whether time has to be told, by [`Output::tick`].
    pub(super) fn counts(&self) -> bool {
        self.readers
            .iter()
            .any(|reader| reader.is_waited_for(&self.ring, self.is_open()))
    }

    /// How much may be read without anybody who is waited for missing something.
    fn room(&self) -> usize {
        let slowest = self.readers.iter().filter(|reader| !reader.lags);
        let slowest = slowest.map(|reader| reader.position).min();
        let kept = slowest.map_or(0, |position| self.ring.end() - position);
        SIZE - usize::try_from(kept).unwrap_or(SIZE)
    }

    /// Reads what the stream has, and passes it on.
    pub(super) fn fill(&mut self) {
        let room = self.room().min(CHUNK);
        let Some(source) = self.source.as_ref().filter(|_| room > 0) else {
            return;
        };
        let end = self.ring.end();
        if self.readers.iter().all(|reader| reader.position == end) {
            self.ring.forget();
        }
        match rustix::io::read(source, self.ring.space(room)) {
            Ok(count) if count > 0 => self.ring.advance(count),
            Err(Errno::INTR | Errno::AGAIN) => return,
            // EIO: nobody has the other side of the terminal open any more.
            _ => self.source = None,
        }
        let start = self.ring.start();
        for reader in &mut self.readers {
            reader.skip_to(start);
        }
        self.pass_on();
    }

    /// Reads what there is still and closes the stream, whoever may write to it yet.
    pub(super) fn close(&mut self) {
        let Some(source) = self.source() else {
            return;
        };
        let mut fds = [PollFd::from_borrowed_fd(source, PollFlags::IN)];
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&none)) {
            Ok(0) => {
                self.source = None;
                self.pass_on();
            }
            _ => self.fill(),
        }
    }

    fn pass_on(&mut self) {
        for reader in &mut self.readers {
            reader.take(&self.ring, self.source.is_none());
        }
    }

    /// What its readers wait for, each with its number.
    pub(super) fn waits(&self) -> impl Iterator<Item = (usize, PollFd<'_>)> {
        let end = self.ring.end();
        let readers = self.readers.iter().enumerate();
        readers.filter_map(move |(number, reader)| Some((number, reader.waits(end)?)))
    }

    /// A reader can take something, or is gone.
    pub(super) fn serve(&mut self, reader: usize, flags: PollFlags) {
        let over = self.source.is_none();
        let Some(reader) = self.readers.get_mut(reader) else {
            return;
        };
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) && matches!(reader.to, To::Client(_)) {
            reader.done = true;
            return;
        }
        reader.take(&self.ring, over);
    }

    /// Some time has gone by: who has not used it?
    pub(super) fn tick(&mut self, stopping: bool) {
        let open = self.is_open();
        for reader in &mut self.readers {
            reader.tick(&self.ring, open, stopping);
        }
    }

    /// Has logs look for files that were moved away.
    pub(super) fn reopen_logs(&mut self) {
        for reader in &mut self.readers {
            if let To::Log(log) = &mut reader.to {
                log.reopen();
            }
        }
    }

    /// Lets go of those who are done. Says how much was lost to each who missed something.
    pub(super) fn sweep(&mut self) -> Vec<u64> {
        let lost = self.readers.iter().filter(|reader| reader.done);
        let lost = lost.map(|reader| reader.missed).filter(|lost| *lost > 0);
        let lost = lost.collect();
        self.readers.retain(|reader| !reader.done);
        lost
    }
}

impl Reader {
    /// What it waits for, and what it is to be watched for.
    pub(super) fn waits(&self, end: u64) -> Option<PollFd<'_>> {
        let pending = self.position < end || !self.notice.is_empty() || self.to.is_behind();
        let events = if pending {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        match &self.to {
            To::Client(client) => Some(PollFd::new(&**client, events)),
            To::Log(log) if pending => Some(PollFd::from_borrowed_fd(log.fd(), events)),
            To::Log(_) => None,
        }
    }

    /// Whether the stream waits for this client.
    fn is_waited_for(&self, ring: &Ring, open: bool) -> bool {
        let pending = ring.end() - self.position;
        let full = !self.lags && pending == SIZE as u64;
        matches!(self.to, To::Client(_)) && (full || (!open && !self.done))
    }

    fn tick(&mut self, ring: &Ring, open: bool, stopping: bool) {
        let taken = self.position - self.before;
        self.before = self.position;
        let enough = if open { STEADY } else { 1 };
        if taken >= enough || !self.is_waited_for(ring, open) {
            self.waited = 0;
            return;
        }
        self.waited += 1;
        let patience = if open || stopping {
            PATIENCE
        } else {
            PATIENCE_AT_END
        };
        if self.waited >= patience {
            self.waited = 0;
            self.lags = true;
            // There is nothing more to wait for.
            self.done |= !open;
        }
    }

    /// What lies before `start` is gone.
    fn skip_to(&mut self, start: u64) {
        if self.position < start {
            self.missed += start - self.position;
            self.position = start;
        }
    }

    /// Hands over as much as it takes.
    fn take(&mut self, ring: &Ring, over: bool) {
        if self.done {
            return;
        }
        match self.hand_over(ring) {
            Ok(()) => {
                self.lags = false;
                self.done = over && self.finish();
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.done = true,
        }
    }

    fn hand_over(&mut self, ring: &Ring) -> io::Result<()> {
        loop {
            if self.missed > 0 && self.notice.is_empty() {
                eprintln!("iottymux: a slow client has missed {} bytes", self.missed);
                self.notice = format!("\r\n[{} bytes were lost here]\r\n", self.missed).into();
                self.missed = 0;
            }
            if !self.notice.is_empty() {
                let count = self.to.write(&self.notice)?;
                self.notice.drain(..count);
                continue;
            }
            if self.position == ring.end() {
                return self.to.catch_up();
            }
            self.position += self.to.write(ring.from(self.position))? as u64;
        }
    }

    /// Whether it has nothing more to do at the end.
    fn finish(&mut self) -> bool {
        match &mut self.to {
            To::Client(_) => true,
            To::Log(log) => match log.end() {
                Err(err) => err.kind() != io::ErrorKind::WouldBlock,
                Ok(()) => true,
            },
        }
    }
}

impl To {
    fn is_behind(&self) -> bool {
        matches!(self, To::Log(log) if log.is_behind())
    }

    fn catch_up(&mut self) -> io::Result<()> {
        match self {
            To::Log(log) => log.catch_up(),
            To::Client(_) => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            To::Log(log) => log.write(bytes),
            To::Client(client) => match rustix::io::write(&**client, bytes) {
                Err(Errno::INTR) => Ok(0),
                written => Ok(written?),
            },
        }
    }
}
