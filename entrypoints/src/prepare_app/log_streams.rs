//! Standard error gets a stream to the journal of its own: systemd opens one for both outputs, in which nobody could tell
//! what was said on which.
//!
//! A stream begins with a few lines about it, as systemd writes them for `StandardError=journal` (systemd-journald.service(8),
//! "Stream logging"; the lines are those of `connect_logger_as` in systemd, the same since its version 183).

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use common::unit::app_unit;
use rustix::fs::fstat;
use rustix::net::sockopt::{
    set_socket_send_buffer_size, set_socket_send_buffer_size_force, socket_send_buffer_size,
};
use rustix::stdio::{dup2_stderr, stderr};

/// What systemd says of the stream that it has opened: `DEVICE:INODE` (systemd.exec(5)).
const VARIABLE: &str = "JOURNAL_STREAM";
/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/stdout";
/// As much as systemd gives its streams: who logs a lot does not wait for journald at once.
const SEND_BUFFER: usize = 8 << 20;
/// The priority of what is said on standard error, "error"; systemd's own stream has "info" (syslog(3)).
const PRIORITY: u8 = 3;

/// Makes standard error tell itself apart, where it goes to the journal.
pub(super) fn separate(app: &str) -> Result<()> {
    let stat = fstat(stderr()).context("stat standard error")?;
    let own = format!("{}:{}", stat.st_dev, stat.st_ino);
    if std::env::var(VARIABLE).ok() != Some(own) {
        return Ok(());
    }
    let stream = connect(Path::new(SOCKET), app)
        .with_context(|| format!("log standard error at {SOCKET}"))?;
    dup2_stderr(&stream).context("log standard error")
}

/// A stream of this process. journald believes a process of root to which unit it belongs, and gives the entries the
/// fields of that one's `LogExtraFields=`.
fn connect(socket: &Path, app: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.shutdown(Shutdown::Read)?;
    if socket_send_buffer_size(&stream)? < SEND_BUFFER {
        // Beyond the system's bound only with a capability: else as much as there may be.
        set_socket_send_buffer_size_force(&stream, SEND_BUFFER)
            .or_else(|_| set_socket_send_buffer_size(&stream, SEND_BUFFER))?;
    }
    // There are no priorities in the text; it goes neither to syslog nor to the kernel's log, but to the console.
    let unit = app_unit(app);
    write!(stream, "{app}\n{unit}\n{PRIORITY}\n0\n0\n0\n1\n")?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_stream_begins_with_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = connect(&path, "web").unwrap();
        stream.write_all(b"text\n").unwrap();
        // Closing would not do: another test may fork just now, and its child have a copy for an instant.
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        let (mut connection, _) = listener.accept().unwrap();
        connection.read_to_string(&mut said).unwrap();
        assert_eq!(said, "web\napp-web.service\n3\n0\n0\n0\n1\ntext\n");
    }
}
