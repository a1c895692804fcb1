//! What an app tells systemd (sd_notify(3)).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getppid, pidfd_open};

use crate::process::BOUND;
use crate::wait;

/// Sends a message, and waits until systemd has read it (sd_notify_barrier(3)): it looks up whose process the sender is
/// only then, and a sender that has ended is nobody's.
pub(super) fn notify(message: &str) -> Result<()> {
    let path = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    let message = message.replace("@PID@", &std::process::id().to_string());
    socket
        .send_to(message.as_bytes(), &path)
        .with_context(|| format!("send to {path}"))?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let passed = [theirs.as_raw_fd()];
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(b"BARRIER=1")],
        &[ControlMessage::ScmRights(&passed)],
        MsgFlags::empty(),
        Some(&UnixAddr::new(path.as_str())?),
    )?;
    drop(theirs);
    // The other end is closed.
    let read = wait::readable(ours.as_fd(), Some(Instant::now() + BOUND))?;
    ensure!(read, "systemd has not read {message:?}");
    Ok(())
}

/// Waits until the process that started this one has ended.
pub(super) fn until_orphan() -> Result<()> {
    let Some(parent) = getppid().filter(|pid| !pid.is_init()) else {
        return Ok(());
    };
    if let Ok(parent) = pidfd_open(parent, PidfdFlags::empty()) {
        wait::readable(parent.as_fd(), None)?;
    }
    Ok(())
}
