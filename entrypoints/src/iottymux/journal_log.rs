//! The log in the pod's journal, and on its console, of what an app says.
//!
//! Entries look as those of apps whose streams lead to the journal itself: journald is told the app's process for each,
//! as root may do, and takes the unit and its cgroup from that. After the app's end this is no longer possible; the
//! fields that name the app and its unit are in each entry anyway. The console gets the lines from here, in journald's form,
//! as journald forwards only streams of its own.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use common::unit::app_unit;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
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

/// The longest part of a line in one entry, in bytes; a longer line has several.
const LINE_MAX: usize = 1100 * 1024;

/// How much goes to journald at once, in bytes: no more lines when there is as much.
const BATCH: usize = 16 * 1024;

/// The largest datagram, in bytes. What is larger is handed over in a file, as the protocol has it.
const DATAGRAM: usize = 128 * 1024;

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
    /// What is not logged yet.
    line: Line,
    /// What the console has not taken yet.
    shown: Vec<u8>,
}

/// The beginning of a line whose end is to come.
#[derive(Debug, Clone, Default)]
struct Line {
    text: Vec<u8>,
    /// Whether there is an entry with the part of the line before that.
    goes_on: bool,
}

/// What ends an entry, if not the end of a line; journald tells that in the same words of streams of its own.
const NUL: &str = "nul";
const TOO_LONG: &str = "line-max";
const END: &str = "eof";

/// Entries, as they are sent and as the console shows them.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<u8>,
    shown: Vec<u8>,
    /// Where the text of the last entry is, and how many before it said the same.
    last: Range<usize>,
    repeated: usize,
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
        let number = process.map_or(0, |pid| pid.as_raw_nonzero().get());
        let unit = app_unit(app);
        Ok(JournalLog {
            journal,
            console: rustix::fs::open(CONSOLE, flags, Mode::empty()).ok(),
            fields: format!(
                "PRIORITY={priority}\nSYSLOG_IDENTIFIER={app}\nSYSLOG_PID={number}\nSTAGE1_POD_UUID={uuid}\n\
                STAGE1_APP={app}\nOBJECT_SYSTEMD_UNIT={unit}\n"
            ),
            app: app.to_owned(),
            process,
            number,
            line: Line::default(),
            shown: Vec::new(),
        })
    }

    /// The entries that bytes complete, as many as go at once; what is left then of the line, and how many bytes were used.
    fn gather(&self, bytes: &[u8]) -> (Batch, Line, usize) {
        let (mut batch, mut line, mut used) = (Batch::default(), self.line.clone(), 0);
        while used < bytes.len() && batch.entries.len() < BATCH {
            let rest = &bytes[used..];
            let room = rest.len().min(LINE_MAX - line.text.len());
            let end = rest[..room]
                .iter()
                .position(|byte| matches!(byte, b'\n' | 0));
            line.text.extend_from_slice(&rest[..end.unwrap_or(room)]);
            used += end.map_or(room, |end| end + 1);
            let ended_by = match end.map(|end| rest[end]) {
                Some(0) => Some(NUL),
                Some(_) => None,
                None if line.text.len() == LINE_MAX => Some(TOO_LONG),
                None => break,
            };
            let begun = self.add(&mut batch, &line, ended_by) || line.goes_on;
            line = Line {
                text: Vec::new(),
                goes_on: begun && ended_by.is_some(),
            };
        }
        (batch, line, used)
    }

    /// Adds an entry, if it says something.
    fn add(&self, batch: &mut Batch, line: &Line, ended_by: Option<&str>) -> bool {
        let mut text = &line.text[..];
        while let (None, Some((b'\r', rest))) = (ended_by, text.split_last()) {
            text = rest;
        }
        // As journald does with empty lines of streams. The end of a line that was begun is none.
        if text.is_empty() && !(line.goes_on && ended_by.is_none()) {
            return false;
        }
        let repeats = !batch.last.is_empty() && batch.entries[batch.last.clone()] == *text;
        batch.repeated = if repeats { batch.repeated + 1 } else { 0 };
        let entries = &mut batch.entries;
        entries.extend_from_slice(self.fields.as_bytes());
        if let Some(ended_by) = ended_by {
            entries.extend_from_slice(format!("STAGE1_LINE_BREAK={ended_by}\n").as_bytes());
        }
        // All entries of a batch are of one time. journald may have an entry in two files when it begins a new one; who reads
        // them can tell that from a line that was said twice.
        if repeats {
            entries.extend_from_slice(format!("STAGE1_REPEATED={}\n", batch.repeated).as_bytes());
        }
        entries.extend_from_slice(b"MESSAGE=");
        batch.last = entries.len()..entries.len() + text.len();
        entries.extend_from_slice(text);
        entries.extend_from_slice(b"\n\n");
        let start = format!("{}[{}]: ", self.app, self.number);
        for part in [start.as_bytes(), text, b"\n"] {
            batch.shown.extend_from_slice(part);
        }
        true
    }

    /// Has entries in the journal, and on their way to the console.
    fn log(&mut self, batch: &Batch) -> io::Result<()> {
        self.show()?;
        if !batch.entries.is_empty() {
            self.send(&batch.entries)?;
        }
        self.shown.extend_from_slice(&batch.shown);
        Ok(())
    }

    fn send(&mut self, entries: &[u8]) -> io::Result<()> {
        let file = (entries.len() > DATAGRAM).then(|| sealed(entries));
        let file = file.transpose()?;
        let rights = file.as_ref().map(|file| [file.as_fd()]);
        let bytes = [IoSlice::new(if file.is_some() { b"" } else { entries })];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(1))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(pid) = self.process {
                control.push(SendAncillaryMessage::ScmCredentials(UCred {
                    pid,
                    uid: Uid::ROOT,
                    gid: Gid::ROOT,
                }));
            }
            if let Some(rights) = &rights {
                control.push(SendAncillaryMessage::ScmRights(rights));
            }
            match sendmsg(&self.journal, &bytes, &mut control, SendFlags::NOSIGNAL) {
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
        // With its memory: there may be many apps that say nothing more.
        self.shown = Vec::new();
        Ok(())
    }
}

/// A file in memory that nobody can change any more.
fn sealed(content: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("entries", flags)?);
    file.write_all(content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

impl Sink for JournalLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            let (batch, line, used) = self.gather(&bytes[taken..]);
            match self.log(&batch) {
                Ok(()) => self.line = line,
                Err(_) if taken > 0 => return Ok(taken),
                Err(err) => return Err(err),
            }
            taken += used;
        }
        Ok(taken)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.console {
            Some(console) if !self.shown.is_empty() => console.as_fd(),
            _ => self.journal.as_fd(),
        }
    }

    fn is_behind(&self) -> bool {
        !self.shown.is_empty()
    }

    fn catch_up(&mut self) -> io::Result<()> {
        self.show()
    }

    fn end(&mut self) -> io::Result<()> {
        let mut batch = Batch::default();
        self.add(&mut batch, &self.line, Some(END));
        self.log(&batch)?;
        self.line = Line::default();
        self.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (JournalLog, OwnedFd) {
        let (journal, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let log = JournalLog {
            journal,
            console: None,
            fields: "APP=a\n".into(),
            app: "a".into(),
            process: None,
            number: 7,
            line: Line::default(),
            shown: Vec::new(),
        };
        (log, other)
    }

    /// The fields of each entry but the one that all have, as text.
    fn entries(bytes: &[u8], chunk: usize) -> Vec<String> {
        let (mut log, _journal) = log();
        let mut all = Vec::new();
        for mut bytes in bytes.chunks(chunk) {
            while !bytes.is_empty() {
                let (batch, line, used) = log.gather(bytes);
                log.line = line;
                all.extend(batch.entries);
                bytes = &bytes[used..];
            }
        }
        let mut batch = Batch::default();
        log.add(&mut batch, &log.line, Some(END));
        all.extend(batch.entries);
        let all = String::from_utf8(all).unwrap();
        let entries = all.split("\n\n").filter(|entry| !entry.is_empty());
        let fields = |entry: &str| entry.strip_prefix("APP=a\n").unwrap().to_owned();
        entries.map(fields).collect()
    }

    #[test]
    fn lines_and_what_ends_them() {
        let said = b"one\r\n\n two \nnul\0\nx\0\0y\nend";
        let expected = [
            "MESSAGE=one",
            "MESSAGE= two ",
            "STAGE1_LINE_BREAK=nul\nMESSAGE=nul",
            "MESSAGE=",
            "STAGE1_LINE_BREAK=nul\nMESSAGE=x",
            "MESSAGE=y",
            "STAGE1_LINE_BREAK=eof\nMESSAGE=end",
        ];
        for chunk in [1, 2, 3, 100] {
            assert_eq!(entries(said, chunk), expected, "in chunks of {chunk}");
        }
        assert_eq!(
            entries(b"a\na\na\nb\na\n", 100),
            [
                "MESSAGE=a",
                "STAGE1_REPEATED=1\nMESSAGE=a",
                "STAGE1_REPEATED=2\nMESSAGE=a",
                "MESSAGE=b",
                "MESSAGE=a"
            ]
        );
    }

    #[test]
    fn long_lines_are_in_parts() {
        for (length, parts) in [(LINE_MAX - 1, 1), (LINE_MAX, 2), (LINE_MAX + 1, 2)] {
            let line = [vec![b'x'; length], b"\nnext\n".to_vec()].concat();
            let entries = entries(&line, 64 * 1024);
            assert_eq!(entries.len(), parts + 1, "{length}");
            let text = |entry: &String| entry.split_once("MESSAGE=").unwrap().1.len();
            assert_eq!(entries[..parts].iter().map(text).sum::<usize>(), length);
            let first = entries[0].starts_with("STAGE1_LINE_BREAK=line-max");
            assert_eq!(first, parts == 2);
            assert_eq!(entries[parts], "MESSAGE=next");
        }
    }

    #[test]
    fn what_is_too_large_for_a_datagram_comes_in_a_file() {
        let (mut log, journal) = log();
        let line = [vec![b'x'; 500_000], b"\n".to_vec()].concat();
        assert_eq!(log.write(&line).unwrap(), line.len());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let flags = rustix::net::RecvFlags::empty();
        let received = rustix::net::recvmsg(&journal, &mut [], &mut control, flags).unwrap();
        assert_eq!(received.bytes, 0);
        let Some(rustix::net::RecvAncillaryMessage::ScmRights(mut files)) = control.drain().next()
        else {
            panic!("no file");
        };
        let file = File::from(files.next().unwrap());
        assert!(
            rustix::fs::fcntl_get_seals(&file)
                .unwrap()
                .contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)
        );
        assert_eq!(
            file.metadata().unwrap().len(),
            500_000 + "APP=a\nMESSAGE=\n\n".len() as u64
        );
    }
}
