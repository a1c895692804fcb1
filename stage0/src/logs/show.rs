//! Shows entries: as the apps wrote them, or as JSON.

use std::io::{self, BufWriter, Stderr, Stdout, Write};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::entry::{Break, Entry, Stream};
use crate::cmd::output::Format;

/// How entries are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// Text: as the app wrote it, what it wrote to standard error there. JSON: an object a line.
    pub format: Format,
    /// Whether lines of text begin with their time.
    pub timestamps: bool,
}

/// Shows entries.
#[derive(Debug)]
pub struct Show<O: Write = Stdout, E: Write = Stderr> {
    form: Form,
    /// Whether lines begin with the app's name.
    named: bool,
    stdout: BufWriter<O>,
    stderr: BufWriter<E>,
    /// The line that has no end yet.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: Stream,
    connection: Vec<u8>,
    app: String,
    end: Break,
}

impl Show {
    /// On this program's own streams.
    pub(super) fn new(form: Form, named: bool) -> Self {
        Self::on(form, named, io::stdout(), io::stderr())
    }
}

impl<O: Write, E: Write> Show<O, E> {
    fn on(form: Form, named: bool, stdout: O, stderr: E) -> Self {
        Self {
            form,
            named,
            stdout: BufWriter::new(stdout),
            stderr: BufWriter::new(stderr),
            open: None,
        }
    }

    /// Shows one more entry.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<()> {
        match self.form.format {
            Format::Text => self.text(entry),
            Format::Json => self.json(entry),
        }
    }

    /// The line that was begun goes on, or another one begins.
    fn text(&mut self, entry: &Entry) -> Result<()> {
        let open = self.open.take();
        let goes_on = open.as_ref().is_some_and(|open| {
            open.end != Break::End
                && open.stream == entry.stream
                && open.connection == entry.connection
                && open.app == entry.app
        });
        let mut bytes = Vec::with_capacity(entry.message.len() + 1);
        if !goes_on {
            if let Some(open) = open {
                self.write(open.stream, b"\n")?;
            }
            if self.form.timestamps {
                bytes.extend(rfc3339(entry).as_bytes());
                bytes.push(b' ');
            }
            if self.named {
                bytes.extend(entry.app.as_bytes());
                bytes.extend(b": ");
            }
        }
        bytes.extend(&entry.message);
        match entry.end {
            Break::Line => bytes.push(b'\n'),
            Break::Nul => bytes.push(0),
            Break::End | Break::Part => {}
        }
        if entry.end != Break::Line {
            self.open = Some(Open {
                stream: entry.stream,
                connection: entry.connection.clone(),
                app: entry.app.clone(),
                end: entry.end,
            });
        }
        self.write(entry.stream, &bytes)
    }

    fn json(&mut self, entry: &Entry) -> Result<()> {
        let mut fields = Map::new();
        fields.insert("time".into(), rfc3339(entry).into());
        fields.insert("app".into(), entry.app.as_str().into());
        fields.insert("stream".into(), entry.stream.as_str().into());
        if let Some(pid) = entry.pid {
            fields.insert("pid".into(), pid.into());
        }
        // What is no text is a list of its bytes, as in the JSON of journalctl.
        let message = match std::str::from_utf8(&entry.message) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from(entry.message.clone()),
        };
        fields.insert("message".into(), message);
        let end = match entry.end {
            Break::Line => None,
            Break::Nul => Some("nul"),
            Break::End => Some("end"),
            Break::Part => Some("part"),
        };
        fields.extend(end.map(|end| ("break".to_owned(), Value::from(end))));
        let mut line = serde_json::to_vec(&fields)?;
        line.push(b'\n');
        self.write(Stream::Stdout, &line)
    }

    /// Writes to one of the streams, after all that was written to the other.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let written = match stream {
            Stream::Stdout => {
                let others = self.stderr.flush();
                others.and_then(|()| self.stdout.write_all(bytes))
            }
            Stream::Stderr => {
                let others = self.stdout.flush();
                others.and_then(|()| self.stderr.write_all(bytes))
            }
        };
        written.context("write the log")
    }

    /// Makes all appear that was shown.
    pub(super) fn flush(&mut self) -> Result<()> {
        let flushed = self.stdout.flush().and_then(|()| self.stderr.flush());
        flushed.context("write the log")
    }

    /// The end of what is shown. Where lines have something before them, the last one gets an end.
    pub(super) fn end(mut self) -> Result<()> {
        if let Some(open) = self.open.take()
            && (self.named || self.form.timestamps)
        {
            self.write(open.stream, b"\n")?;
        }
        self.flush()
    }
}

fn rfc3339(entry: &Entry) -> String {
    humantime::format_rfc3339_micros(entry.time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(stream: Stream, connection: &str, message: &[u8], end: Break) -> Entry {
        Entry {
            cursor: String::new(),
            time: UNIX_EPOCH + Duration::from_millis(1500),
            app: "web".into(),
            identifier: "web".into(),
            pid: Some(7),
            stream,
            connection: connection.into(),
            message: message.to_vec(),
            end,
            told_apart: false,
        }
    }

    /// What is written to standard output and standard error.
    fn shown(format: Format, timestamps: bool, named: bool, entries: &[Entry]) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let form = Form { format, timestamps };
        let mut show = Show::on(form, named, &mut out, &mut err);
        entries.iter().for_each(|e| show.entry(e).unwrap());
        show.end().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err))
    }

    #[test]
    fn text_is_what_the_app_wrote() {
        use Break::{End, Line, Nul, Part};
        use Stream::{Stderr, Stdout};
        let long = [
            entry(Stdout, "1", b"be", Part),
            entry(Stdout, "1", b"gin", Nul),
            entry(Stdout, "1", b"ning", Line),
            entry(Stderr, "2", b"error", Line),
            entry(Stdout, "1", b"no end", End),
        ];
        assert_eq!(
            shown(Format::Text, false, false, &long),
            ("begin\0ning\nno end".into(), "error\n".into())
        );
        // What another connection says is not a part of the line.
        let apart = [
            entry(Stdout, "1", b"be", Part),
            entry(Stderr, "2", b"er", Part),
            entry(Stdout, "1", b"gin", Line),
            entry(Stdout, "1", b"one", End),
            entry(Stdout, "1", b"two", End),
        ];
        assert_eq!(
            shown(Format::Text, false, true, &apart),
            (
                "web: be\nweb: gin\nweb: one\nweb: two\n".into(),
                "web: er\n".into()
            )
        );
        assert_eq!(
            shown(Format::Text, true, true, &long[..3]).0,
            "1970-01-01T00:00:01.500000Z web: begin\0ning\n"
        );
    }

    #[test]
    fn json_tells_all() {
        let entries = [
            entry(Stream::Stderr, "1", b"a \"b\"", Break::Line),
            entry(Stream::Stdout, "1", b"\xff\n", Break::Part),
        ];
        let (out, err) = shown(Format::Json, false, false, &entries);
        assert_eq!(err, "");
        let before = r#"{"time":"1970-01-01T00:00:01.500000Z","app":"web","#;
        assert_eq!(
            out,
            format!(
                "{before}\"stream\":\"stderr\",\"pid\":7,\"message\":\"a \\\"b\\\"\"}}\n\
                 {before}\"stream\":\"stdout\",\"pid\":7,\"message\":[255,10],\"break\":\"part\"}}\n"
            )
        );
    }
}
