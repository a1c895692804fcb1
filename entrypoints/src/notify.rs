//! What our programs say to systemd for the app in whose unit they run (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Where systemd hears it, for programs that it lets speak.
const SOCKET: &str = "NOTIFY_SOCKET";

/// As long as no program runs. Numbers that mean "no end" are ignored in this message.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The socket, when this program may speak.
pub(crate) fn socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET).map(PathBuf::from)
}

/// Lets this command of the unit's start take as long as it takes: the limit is for the app, until it is ready. systemd
/// counts anew for the next command.
pub(crate) fn lift_limit() -> Result<()> {
    let Some(path) = socket() else {
        return Ok(());
    };
    let message = format!("EXTEND_TIMEOUT_USEC={}", LONG.as_micros());
    UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(message.as_bytes(), &path))
        .with_context(|| format!("tell systemd at {} to wait", path.display()))?;
    Ok(())
}
