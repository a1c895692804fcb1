//! The log in the pod's journal, and on its console, of what an app says.
//!
//! Entries look as those of apps whose streams lead to the journal itself: journald is told the app's process for each,
//! as root may do, and takes the unit and its cgroup from that. After the app's end this is no longer possible; the
//! fields that name the app are in each entry anyway. The console gets the lines from here, in journald's form, as journald
//! forwards only streams of its own.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, UCred, connect, sendmsg, socket_with,
};
use rustix::process::{Gid, Pid, Uid};

use super::sink::Sink;

/// Where journald takes entries in its own form (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const SOCKET: &str = "/run/systemd/journal/socket";
const CONSOLE: &str = "/dev/console";

/// The longest part of a line in one entry, in bytes; a longer line has several. An entry fits into a datagram.
const LINE_MAX: usize = 64 * 1024;

/// Priorities of the two streams (syslog(3): LOG_INFO, LOG_ERR), by which they are told apart.
pub(super) const OUT: u8 = 6;
pub(super) const ERR: u8 = 3;

/// A log of one stream.
pub(super) struct JournalLog {
    journal: OwnedFd,
    console: Option<OwnedFd>,
    /// The fields of every entry.
    fields: String,
    app: String,
    /// The app's main process, as long as it is there.
    process: Option<Pid>,
    /// What the console calls it.
    number: i32,
    /// The beginning of a line whose end is to come.
    line: Vec<u8>,
    /// What the console has not taken yet.
    shown: Vec<u8>,
}

impl JournalLog {
    /// A log for the app of a pod, which began with this process.
    pub(super) fn open(app: &str, uuid: &str, process: Option<i32>, priority: u8) -> Result<Self> {
        let context = || format!("connect to {SOCKET}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let journal = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let journal = journal.with_context(context)?;
        connect(&journal, &SocketAddrUnix::new(Path::new(SOCKET))?).with_context(context)?;
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let process = process.and_then(Pid::from_raw);
        Ok(JournalLog {
            journal,
            console: rustix::fs::open(CONSOLE, flags, Mode::empty()).ok(),
            fields: format!(
                "PRIORITY={priority}\nSYSLOG_IDENTIFIER={app}\nSTAGE1_POD_UUID={uuid}\nSTAGE1_APP={app}\n"
            ),
            app: app.to_owned(),
            process,
            number: process.map_or(0, |pid| pid.as_raw_nonzero().get()),
            line: Vec::new(),
            shown: Vec::new(),
        })
    }

    /// Has the line that is whole in the journal, and on its way to the console.
    fn log(&mut self) -> io::Result<()> {
        self.show()?;
        while self.line.last().is_some_and(|last| *last == b'\r') {
            self.line.pop();
        }
        // As journald does with empty lines of streams.
        if self.line.is_empty() {
            return Ok(());
        }
        self.send()?;
        let start = format!("{}[{}]: ", self.app, self.number);
        self.shown.extend_from_slice(start.as_bytes());
        self.shown.extend_from_slice(&self.line);
        self.shown.push(b'\n');
        self.line.clear();
        // What the console does not take now it is offered before the next line.
        let _ = self.show();
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let length = (self.line.len() as u64).to_le_bytes();
        let entry = [
            IoSlice::new(self.fields.as_bytes()),
            IoSlice::new(b"MESSAGE\n"),
            IoSlice::new(&length),
            IoSlice::new(&self.line),
            IoSlice::new(b"\n"),
        ];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(pid) = self.process {
                control.push(SendAncillaryMessage::ScmCredentials(UCred {
                    pid,
                    uid: Uid::ROOT,
                    gid: Gid::ROOT,
                }));
            }
            match sendmsg(&self.journal, &entry, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                // It has ended.
                Err(Errno::SRCH) if self.process.is_some() => self.process = None,
                Err(Errno::INTR) => {}
                // journald starts anew.
                Err(Errno::CONNREFUSED) => {
                    connect(&self.journal, &SocketAddrUnix::new(Path::new(SOCKET))?)?;
                }
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Writes to the console what it has not taken yet.
    fn show(&mut self) -> io::Result<()> {
        while let (Some(console), false) = (&self.console, self.shown.is_empty()) {
            match rustix::io::write(console, &self.shown) {
                Ok(count) => drop(self.shown.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => self.console = None,
            }
        }
        self.shown.clear();
        Ok(())
    }
}

impl Sink for JournalLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let room = LINE_MAX - self.line.len();
            let end = rest.iter().take(room).position(|byte| *byte == b'\n');
            let length = end.unwrap_or(room.min(rest.len()));
            let before = self.line.len();
            self.line.extend_from_slice(&rest[..length]);
            if end.is_some() || self.line.len() == LINE_MAX {
                if let Err(err) = self.log() {
                    // This part of the line is not taken.
                    self.line.truncate(before);
                    return if taken > 0 { Ok(taken) } else { Err(err) };
                }
            }
            taken += length + usize::from(end.is_some());
        }
        Ok(taken)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.console {
            Some(console) if !self.shown.is_empty() => console.as_fd(),
            _ => self.journal.as_fd(),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.log()?;
        self.show()
    }
}
