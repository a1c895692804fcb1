//! Entries of a journal in systemd's export format (`journalctl --output=export`): a line `NAME=VALUE` for each field,
//! or for one that is not plain text its name, a line feed, its length in 64 bits (little-endian), it, and a line feed.
//! An empty line ends the entry.

use std::io::{self, BufRead, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The priority at which standard error is logged; standard output has another (syslog(3), `LOG_ERR`).
const STDERR: &[u8] = b"3";

/// Which stream of an app an entry is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word that users see.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What ended the text of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// The end of a line.
    Line,
    /// A NUL.
    Nul,
    /// The end of the stream.
    End,
    /// Nothing: the line goes on in the next entry of its stream, because it is too long for one.
    Part,
}

/// What an app has said at once: a line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cursor: String,
    pub(super) time: SystemTime,
    pub(super) app: String,
    /// Who says it: the app, or a program that looks after it.
    pub(super) identifier: String,
    pub(super) pid: Option<u32>,
    pub(super) stream: Stream,
    /// Tells connections to the journal apart.
    pub(super) connection: Vec<u8>,
    pub(super) message: Vec<u8>,
    pub(super) end: Break,
    /// Whether what has logged it tells apart lines that say the same at once.
    pub(super) told_apart: bool,
}

/// The fields that are read, besides those that are always printed.
pub(super) const FIELDS: &str = "MESSAGE,PRIORITY,STAGE1_APP,SYSLOG_IDENTIFIER,SYSLOG_PID,OBJECT_SYSTEMD_UNIT,_PID,_STREAM_ID,STAGE1_LINE_BREAK,_LINE_BREAK";

/// Reads the next entry. `None` at the end, also when it comes amid an entry.
pub(super) fn read(source: &mut impl BufRead) -> io::Result<Option<Entry>> {
    let mut entry = Entry {
        cursor: String::new(),
        time: UNIX_EPOCH,
        app: String::new(),
        identifier: String::new(),
        pid: None,
        stream: Stream::Stdout,
        connection: Vec::new(),
        message: Vec::new(),
        end: Break::Line,
        told_apart: false,
    };
    let mut empty = true;
    loop {
        let mut line = Vec::new();
        source.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        if line.is_empty() {
            match empty {
                // Before the first one.
                true => continue,
                false => return Ok(Some(entry)),
            }
        }
        empty = false;
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) => entry.set(&line[..at], line[at + 1..].to_vec()),
            None => match read_value(source)? {
                Some(value) => entry.set(&line, value),
                None => return Ok(None),
            },
        }
    }
}

/// Reads a value with its length before it.
fn read_value(source: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match source.read_exact(&mut length) {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u64::from_le_bytes(length);
    let mut value = Vec::new();
    // With the line feed behind it.
    source
        .take(length.saturating_add(1))
        .read_to_end(&mut value)?;
    let whole = u64::try_from(value.len()).is_ok_and(|read| read > length);
    value.pop();
    Ok(whole.then_some(value))
}

impl Entry {
    fn set(&mut self, name: &[u8], value: Vec<u8>) {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        match name {
            b"__CURSOR" => self.cursor = text(&value),
            b"__REALTIME_TIMESTAMP" => {
                let micros = text(&value).parse().unwrap_or_default();
                self.time = UNIX_EPOCH + Duration::from_micros(micros);
            }
            b"MESSAGE" => self.message = value,
            b"PRIORITY" if value == STDERR => self.stream = Stream::Stderr,
            b"STAGE1_APP" => self.app = text(&value),
            b"SYSLOG_IDENTIFIER" => self.identifier = text(&value),
            // What logs for an app says whose process it was; journald sees who has sent that.
            b"SYSLOG_PID" => self.pid = text(&value).parse().ok(),
            b"OBJECT_SYSTEMD_UNIT" => self.told_apart = true,
            b"_PID" => self.pid = self.pid.or(text(&value).parse().ok()),
            b"_STREAM_ID" => self.connection = value,
            // systemd.journal-fields(7): "pid-change" is a line of which another process writes the rest.
            b"_LINE_BREAK" | b"STAGE1_LINE_BREAK" => {
                self.end = match &value[..] {
                    b"nul" => Break::Nul,
                    b"eof" => Break::End,
                    b"line-max" | b"pid-change" => Break::Part,
                    _ => Break::Line,
                }
            }
            _ => {}
        }
    }

    /// Whether it is the same as the one before, or behind, it with this cursor. journald has an entry in two files when the
    /// first one turns out to be full amid it: they differ in their numbers alone, not in time and content.
    pub(super) fn is_again(&self, cursor: &str) -> bool {
        let rest = |cursor: &str| cursor.find(";b=").map(|at| cursor[at..].to_owned());
        self.told_apart && rest(cursor).is_some() && rest(cursor) == rest(&self.cursor)
    }

    /// Whether an app says it, or one of its handlers, and no program of ours that looks after it.
    pub(super) fn is_output(&self) -> bool {
        !self.app.is_empty() && self.app == self.identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &[u8]) -> Vec<u8> {
        let mut out = format!("{name}\n").into_bytes();
        out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
        out.extend(value);
        out.push(b'\n');
        out
    }

    fn all(mut bytes: &[u8]) -> Vec<Entry> {
        std::iter::from_fn(|| read(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn plain_and_binary_fields() {
        let mut bytes =
            b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1500000\nPRIORITY=3\nSTAGE1_APP=a\n\
            SYSLOG_IDENTIFIER=a\n_PID=7\n_LINE_BREAK=eof\n"
                .to_vec();
        bytes.extend(field("MESSAGE", b"a\n=\xff\n\n"));
        bytes.extend(b"\n\n\nMESSAGE=b=c\nUNKNOWN=x\n\nMESSAGE=cut");
        let entries = all(&bytes);
        assert_eq!(entries.len(), 2, "{entries:?}");
        let first = &entries[0];
        assert_eq!(first.cursor, "s=1;i=2");
        assert_eq!(first.time, UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!(
            (first.stream, first.end, first.pid),
            (Stream::Stderr, Break::End, Some(7))
        );
        assert_eq!(first.message, b"a\n=\xff\n\n");
        assert!(first.is_output());
        assert_eq!(entries[1].message, b"b=c");
        assert!(!entries[1].is_output());
    }

    #[test]
    fn an_entry_that_is_in_two_files() {
        let entry = |more: &str| {
            let bytes = format!("__CURSOR=s=1;i=2;b=3;m=4;t=5;x=6\n{more}MESSAGE=a\n\n");
            all(bytes.as_bytes()).remove(0)
        };
        let ours = entry("OBJECT_SYSTEMD_UNIT=app-a.service\n");
        assert!(ours.is_again("s=1;i=1;b=3;m=4;t=5;x=6"));
        assert!(!ours.is_again("s=1;i=1;b=3;m=4;t=5;x=7"));
        assert!(!ours.is_again(""));
        // Of a stream of journald's own: the same line twice.
        assert!(!entry("").is_again("s=1;i=1;b=3;m=4;t=5;x=6"));
    }

    #[test]
    fn a_value_that_is_cut_is_no_entry() {
        let mut bytes = b"MESSAGE=whole\n\n".to_vec();
        let cut = field("MESSAGE", &[b'x'; 100]);
        for length in [8, 10, 16, 17, 100, cut.len() - 1, cut.len()] {
            bytes.truncate(15);
            bytes.extend(&cut[..length]);
            let entries = all(&bytes);
            assert_eq!(entries.len(), 1, "cut at {length}");
        }
        // A length that no memory could hold.
        bytes.truncate(15);
        bytes.extend(b"MESSAGE\n");
        bytes.extend(u64::MAX.to_le_bytes());
        assert_eq!(all(&bytes).len(), 1);
    }
}
