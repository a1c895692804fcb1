//! The sockets that systemd listens on for the app, passed on by the protocol of sd_listen_fds(3).

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{IntoRawFd, RawFd};

use anyhow::{Context, Result, bail};
use common::env::Environment;
use common::listen::{Protocol, Socket};
use common::sys::inherited_fd;
use rustix::io::{FdFlags, fcntl_setfd};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Lets the app inherit its sockets, and tells it of them. This process becomes the app, so the pid stays; the names are
/// those of the ports, for which systemd has one name a unit.
pub(super) fn take(sockets: &[Socket], environment: &mut Environment) -> Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let (pid, count) = (number("LISTEN_PID"), number("LISTEN_FDS"));
    if pid != usize::try_from(std::process::id()).ok() || count != Some(sockets.len()) {
        return missing(sockets);
    }
    for (fd, socket) in (FIRST..).zip(sockets) {
        let inherit = || -> io::Result<()> {
            let socket = inherited_fd(fd)?;
            fcntl_setfd(&socket, FdFlags::empty())?;
            // It is the app's from here on.
            let _ = socket.into_raw_fd();
            Ok(())
        };
        inherit().with_context(|| format!("port {}: pass descriptor {fd}", socket.name))?;
    }
    let names: Vec<_> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    environment.set("LISTEN_PID", &std::process::id().to_string());
    environment.set("LISTEN_FDS", &sockets.len().to_string());
    environment.set("LISTEN_FDNAMES", &names.join(":"));
    Ok(())
}

/// systemd passes all sockets or none, and does not tell the app why. What it could not do fails here too.
fn missing(sockets: &[Socket]) -> Result<()> {
    for socket in sockets {
        let address = socket.address();
        let listened = match socket.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        listened.with_context(|| format!("port {}: listen on {socket}", socket.name))?;
    }
    bail!("systemd passed none of the app's sockets: see the pod's journal")
}
