//! What our programs say to systemd for the app in whose unit they run (sd_notify(3)).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};

/// Where systemd hears it, for programs that it lets speak.
const SOCKET: &str = "NOTIFY_SOCKET";

/// As long as no program runs. Numbers that mean "no end" are ignored in this message.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How long systemd may take to read what it is told.
const BARRIER: Duration = Duration::from_secs(30);

/// The socket, when this program may speak.
pub(crate) fn socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET).map(PathBuf::from)
}

/// Lets this command of the unit's start take as long as it takes: the limit is for the app, until it is ready. systemd
/// counts anew for the next command.
pub(crate) fn lift_limit() -> Result<()> {
    extend_limit(LONG)
}

/// Lets this command of the unit take so long from now on, whatever limit systemd has for it.
pub(crate) fn extend_limit(time: Duration) -> Result<()> {
    send(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()), &[])
}

/// Tells systemd that this program is ready.
pub(crate) fn ready() -> Result<()> {
    send("READY=1", &[])
}

/// Has systemd keep a descriptor for this program, should it die (`FDSTORE=1`). It is passed to the next run under the same
/// name.
pub(crate) fn keep(name: &str, descriptor: BorrowedFd<'_>) -> Result<()> {
    // Otherwise systemd lets go of one whose other side is closed, while there may be something to read.
    send(
        &format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"),
        &[descriptor],
    )
}

/// Has systemd let go of what it keeps under a name.
pub(crate) fn forget(name: &str) -> Result<()> {
    send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
}

/// Waits until systemd has read what it was told: it lets go of a pipe then (sd_notify_barrier(3)).
pub(crate) fn wait_until_read() -> Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    send("BARRIER=1", &[writer.as_fd()])?;
    drop(writer);
    let mut fds = [PollFd::new(&reader, PollFlags::empty())];
    let bound = Timespec::try_from(BARRIER).context("wait for systemd")?;
    match poll(&mut fds, Some(&bound)).context("wait for systemd")? {
        0 => bail!("systemd has read nothing for {BARRIER:?}"),
        _ => Ok(()),
    }
}

/// Sends a message with descriptors, where there is somebody to hear it.
fn send(message: &str, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let Some(path) = socket() else {
        return Ok(());
    };
    let send = || -> rustix::io::Result<()> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let to = SocketAddrUnix::new(&path)?;
        let bytes = [IoSlice::new(message.as_bytes())];
        sendmsg_addr(&socket, &to, &bytes, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    };
    send().with_context(|| format!("tell systemd at {}", path.display()))
}
