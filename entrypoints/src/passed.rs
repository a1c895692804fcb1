//! Takes the sockets that the caller of the run entrypoint passes, and passes them on to the supervisor
//! (sd_listen_fds(3)): systemd-nspawn gives them to the pod's systemd, and that gives them to the apps.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use common::listen::Protocol;
use common::passed::Passed;
use common::sys::inherited_fd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{AddressFamily, SocketType, sockopt::socket_domain};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
pub(crate) const FIRST: RawFd = 3;

/// Sockets that were passed to this program.
pub(crate) struct Sockets {
    fds: Vec<OwnedFd>,
    /// What they are.
    pub(crate) passed: Vec<Passed>,
}

impl Sockets {
    /// Takes them from the environment that `variable` looks up; none when it is meant for another process. `taken` is a
    /// descriptor that has an owner.
    pub(crate) fn take(variable: impl Fn(&str) -> Option<String>, taken: RawFd) -> Result<Self> {
        let mut sockets = Sockets {
            fds: Vec::new(),
            passed: Vec::new(),
        };
        let own = std::process::id().to_string();
        if variable("LISTEN_PID").is_none_or(|pid| pid != own) {
            return Ok(sockets);
        }
        let count = variable("LISTEN_FDS").unwrap_or_default();
        let count: RawFd = count
            .parse()
            .with_context(|| format!("LISTEN_FDS: {count:?} is not a number"))?;
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        for fd in (FIRST..).take(usize::try_from(count).unwrap_or_default()) {
            let name = names.next().unwrap_or_default();
            let context = || format!("LISTEN_FDS: descriptor {fd} ({name})");
            ensure!(fd != taken, "{}: is the pod's lock", context());
            let socket = inherited_fd(fd).with_context(context)?;
            let (protocol, address) = look(&socket).with_context(context)?;
            sockets.fds.push(socket);
            sockets.passed.push(Passed {
                name: name.to_owned(),
                protocol,
                address,
            });
        }
        Ok(sockets)
    }

    /// Has this process pass them to the program that it becomes.
    pub(crate) fn pass(&self, command: &mut Command) -> Result<()> {
        if self.fds.is_empty() {
            return Ok(());
        }
        for fd in &self.fds {
            fcntl_setfd(fd, FdFlags::empty()).context("pass a socket")?;
        }
        command.env("LISTEN_PID", std::process::id().to_string());
        command.env("LISTEN_FDS", self.fds.len().to_string());
        Ok(())
    }
}

/// What a socket is.
fn look(socket: &OwnedFd) -> Result<(Protocol, SocketAddr)> {
    let kind = socket_type(socket).context("is no socket")?;
    let protocol = match (socket_domain(socket)?, kind) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Protocol::Tcp,
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Protocol::Udp,
        _ => bail!("is neither tcp nor udp"),
    };
    if protocol == Protocol::Tcp {
        let listens = socket_acceptconn(socket)?;
        ensure!(listens, "is a connection and does not listen (Accept=yes)");
    }
    // Both kinds of socket are asked in the same way.
    let address = TcpListener::from(socket.try_clone()?).local_addr()?;
    Ok((protocol, address))
}
