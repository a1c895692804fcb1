//! The log of a stream in the form of the container runtime interface of Kubernetes: lines `TIME STREAM TAG TEXT`, where the
//! tag is F for the end of a line, and P for a part of one to which the next line of the stream belongs.
//!
//! The two streams of an app have a log each, and append to the same file. Who rotates it renames it: each log looks for
//! that before it writes, and makes the file anew. Nothing is ever taken away from it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use common::root::Root;
use rustix::fs::{FileType, OFlags, fstat};

use super::sink::Sink;

/// The longest text of a line, in bytes; what is longer is logged in parts. Other runtimes have the same bound.
const PART: usize = 16 * 1024;

/// A log of one stream.
pub(super) struct CriLog {
    dir: Root,
    path: PathBuf,
    stream: &'static str,
    file: File,
    /// The beginning of a line whose end is to come.
    line: Vec<u8>,
    /// Whether a line could not be written whole: the next one is not to be a part of it.
    torn: bool,
    /// Whether the file could not be written to, which is told once.
    failed: bool,
}

impl CriLog {
    /// The log of the stream (`stdout` or `stderr`) in a file below a directory, out of which no symlink leads.
    pub(super) fn open(dir: &Path, path: &str, stream: &'static str) -> Result<Self> {
        let root = Root::open(dir).with_context(|| format!("open {}", dir.display()))?;
        let path = Path::new("/").join(path);
        let file =
            open(&root, &path).with_context(|| format!("open the log {}", path.display()))?;
        Ok(CriLog {
            dir: root,
            path,
            stream,
            file,
            line: Vec::new(),
            torn: false,
            failed: false,
        })
    }

    /// Opens the file anew if it is not at its place any more.
    fn look(&mut self) -> io::Result<()> {
        let own = fstat(&self.file)?;
        let there = self.dir.stat(&self.path)?;
        if there.is_none_or(|there| (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino)) {
            self.file = open(&self.dir, &self.path)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Takes bytes, and gives the lines that they complete, as they are to be written.
    fn lines(&mut self, bytes: &[u8], time: SystemTime) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            loop {
                let (text, end) = match rest.split_last() {
                    Some((b'\n', text)) => (text, true),
                    _ => (rest, false),
                };
                let room = PART - self.line.len();
                if text.len() < room || end && text.len() == room {
                    self.line.extend_from_slice(text);
                    if end {
                        self.put(&mut out, 'F', time);
                    }
                    break;
                }
                self.line.extend_from_slice(&text[..room]);
                self.put(&mut out, 'P', time);
                rest = &rest[room..];
            }
        }
        out
    }

    fn put(&mut self, out: &mut Vec<u8>, tag: char, time: SystemTime) {
        let time = humantime::format_rfc3339_nanos(time);
        out.extend_from_slice(format!("{time} {} {tag} ", self.stream).as_bytes());
        out.append(&mut self.line);
        out.push(b'\n');
    }

    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        self.look()?;
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(lines)?;
        self.torn = false;
        Ok(())
    }

    /// Appends lines. What cannot be written is lost: an app does not stand still for a full disk.
    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let written = self.write_lines(lines);
        if let (Err(err), false) = (&written, self.failed) {
            eprintln!("iottymux: write to the log {}: {err}", self.path.display());
        }
        self.failed = written.is_err();
    }
}

impl Sink for CriLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = self.lines(bytes, SystemTime::now());
        self.append(&lines);
        Ok(bytes.len())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            let mut out = Vec::new();
            self.put(&mut out, 'P', SystemTime::now());
            self.append(&out);
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if let Err(err) = self.look() {
            eprintln!("iottymux: open the log {}: {err}", self.path.display());
        }
    }
}

/// Opens a file to append to it; made, with the directories that it is in, where it is missing.
fn open(dir: &Root, path: &Path) -> io::Result<File> {
    dir.make_file(path)?;
    // NONBLOCK: opening a fifo by that name must not wait.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = dir.open_at(path, flags)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(io::Error::other("not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn log(dir: &Path, stream: &'static str) -> CriLog {
        CriLog::open(dir, "pod/0.log", stream).unwrap()
    }

    /// The stream, tag and text of each line; the time must be one.
    fn read(file: &Path) -> Vec<(String, String, Vec<u8>)> {
        let content = fs::read(file).unwrap();
        let lines = content.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n');
        let parse = |line: &[u8]| {
            let mut parts = line.splitn(4, |byte| *byte == b' ');
            let mut next = || parts.next().unwrap().to_vec();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            humantime::parse_rfc3339(&text(next())).unwrap();
            (text(next()), text(next()), next())
        };
        lines.map(parse).collect()
    }

    /// What a reader of the log takes for what was written.
    fn joined(lines: &[(String, String, Vec<u8>)]) -> Vec<u8> {
        let end = |tag: &str| if tag == "F" { &b"\n"[..] } else { b"" };
        let texts = lines.iter().map(|(_, tag, text)| [text, end(tag)].concat());
        texts.collect::<Vec<_>>().concat()
    }

    #[test]
    fn lines_and_parts_are_what_was_written() {
        let long = |length| [vec![b'x'; length], vec![b'\n']].concat();
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let contents = [
            b"one\n\n  two \nend".to_vec(),
            b"\n".to_vec(),
            long(PART - 1),
            long(PART),
            long(PART + 1),
            long(1 << 20),
            [long(2 * PART), b"next\n".to_vec()].concat(),
            (0..100_000).map(|_| noise()).collect(),
        ];
        for content in contents {
            for chunk in [1, 7, PART, PART + 1, 1 << 21] {
                let dir = tempfile::tempdir().unwrap();
                let mut log = log(dir.path(), "stdout");
                if chunk == 1 && content.len() > 1000 {
                    continue;
                }
                for bytes in content.chunks(chunk) {
                    assert_eq!(log.write(bytes).unwrap(), bytes.len());
                }
                log.end().unwrap();
                let lines = read(&dir.path().join("pod/0.log"));
                assert!(lines.iter().all(|(_, _, text)| text.len() <= PART));
                assert!(joined(&lines) == content, "in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn restarts_append_and_rotation_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pod/0.log");
        log(dir.path(), "stdout").write(b"before\n").unwrap();
        let (mut out, mut err) = (log(dir.path(), "stdout"), log(dir.path(), "stderr"));
        out.write(b"after\n").unwrap();
        err.write(b"error\n").unwrap();
        let texts = |file: &Path| {
            let lines = read(file).into_iter();
            lines
                .map(|(stream, _, text)| format!("{stream} {}", String::from_utf8(text).unwrap()))
                .collect::<Vec<_>>()
        };
        let all = ["stdout before", "stdout after", "stderr error"];
        assert_eq!(texts(&file), all);
        let rotated = dir.path().join("rotated");
        fs::rename(&file, &rotated).unwrap();
        err.reopen();
        assert_eq!(fs::read(&file).unwrap(), b"");
        out.write(b"new\n").unwrap();
        err.write(b"too\n").unwrap();
        assert_eq!(texts(&rotated), all);
        assert_eq!(texts(&file), ["stdout new", "stderr too"]);
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("pod")).unwrap();
        // Either refused, or inside: below the directory taken for the root.
        let opened = CriLog::open(dir.path(), "pod/0.log", "stdout");
        drop(opened.map(|mut log| log.write(b"text\n")));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        fs::remove_file(dir.path().join("pod")).unwrap();
        fs::create_dir_all(dir.path().join("pod/0.log")).unwrap();
        assert!(CriLog::open(dir.path(), "pod/0.log", "stdout").is_err());
    }
}
