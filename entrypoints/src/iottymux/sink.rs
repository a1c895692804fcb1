//! Logs of a stream.

use std::io;
use std::os::fd::BorrowedFd;

/// A log. Unlike a client it gets all: as long as it takes nothing, nothing is read from the app.
pub(super) trait Sink {
    /// Takes bytes of the stream, and says how many.
    ///
    /// # Errors
    /// `WouldBlock` when it can take none now; it is tried again when [`Sink::fd`] can be written to. Any other error is the
    /// log's end.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// What it waits for.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether something that it took is on its way yet.
    fn is_behind(&self) -> bool {
        false
    }

    /// Goes on with that.
    ///
    /// # Errors
    /// `WouldBlock`: to be tried again.
    fn catch_up(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The stream is over: what is kept of an unfinished line is written.
    ///
    /// # Errors
    /// `WouldBlock`: to be tried again.
    fn end(&mut self) -> io::Result<()>;

    /// A file that it writes to may have been moved away.
    fn reopen(&mut self) {}
}
