//! What programs in the pod have to do with its journal.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use log::{Level, Log, Record};
use systemd_journal_logger::JournalLog;

/// The Varlink service of journald (systemd-journald.service(8), since systemd 243).
const VARLINK: &str = "/run/systemd/journal/io.systemd.journal";

/// How long journald may take to write what it has: long, for a slow disk or a busy machine, but not for ever.
const SYNCHRONIZE_TIME: Duration = Duration::from_secs(60);

/// Has journald read and write everything that was logged until now. It ends by a signal when the pod does, and what
/// it has not read by then is lost: without this a short pod loses its whole output.
pub(crate) fn synchronize() -> Result<()> {
    synchronize_at(Path::new(VARLINK))
        .with_context(|| format!("ask journald at {VARLINK} to write its logs"))
}

fn synchronize_at(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SYNCHRONIZE_TIME))?;
    stream.set_write_timeout(Some(SYNCHRONIZE_TIME))?;
    // Messages of Varlink are JSON, each ended by a NUL.
    stream.write_all(b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0")?;
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply)?;
    if reply.pop() != Some(0) {
        bail!("no answer");
    }
    let reply: serde_json::Value = serde_json::from_slice(&reply).context("read the answer")?;
    if let Some(error) = reply.get("error") {
        bail!("{error}");
    }
    Ok(())
}

/// Writes an error of a program of ours to the pod's journal, under the app it was about. Where there is no journal
/// the error is only on standard error, which the caller prints.
pub(crate) fn log_error(program: &str, app: Option<&str>, message: &str) {
    let Ok(logger) = JournalLog::new() else {
        return;
    };
    let app = app.map(|app| ("STAGE1_APP", app));
    let logger = logger
        .with_syslog_identifier(program.to_owned())
        .with_extra_fields(app);
    logger.log(
        &Record::builder()
            .level(Level::Error)
            .args(format_args!("{message}"))
            .build(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    fn with_answer(answer: &'static [u8]) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 44];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            request
        });
        let result = synchronize_at(&path);
        assert_eq!(
            &server.join().unwrap(),
            b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0"
        );
        result
    }

    #[test]
    fn asks_and_waits_for_the_answer() {
        with_answer(b"{\"parameters\":{}}\0").unwrap();
        assert_eq!(with_answer(b"").unwrap_err().to_string(), "no answer");
        let error = with_answer(b"{\"error\":\"io.systemd.Journal.NotSupportedByNamespaces\"}\0")
            .unwrap_err();
        assert!(error.to_string().contains("NotSupported"));
    }
}
