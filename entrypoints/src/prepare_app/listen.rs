//! The sockets of the app, which systemd has listened on or was passed, passed on by the protocol of sd_listen_fds(3).

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use common::env::Environment;
use common::listen::{Protocol, Socket};
use common::sys::inherited_fd;
use common::unit::passed_unit;
use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::passed::FIRST;

/// Lets the app inherit its sockets, and tells it of them. This process becomes the app, so the pid stays; the names are
/// those of the ports, for which systemd has one name a unit.
pub(super) fn take(app: &str, sockets: &[Socket], environment: &mut Environment) -> Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let (pid, count) = (number("LISTEN_PID"), number("LISTEN_FDS"));
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let order = order(app, sockets, &names);
    let (true, true, Some(order)) = (
        pid == usize::try_from(std::process::id()).ok(),
        count == Some(sockets.len()),
        order,
    ) else {
        return missing(sockets);
    };
    pass(&order).context("pass the sockets")?;
    let names: Vec<_> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    environment.set("LISTEN_PID", &std::process::id().to_string());
    environment.set("LISTEN_FDS", &sockets.len().to_string());
    environment.set("LISTEN_FDNAMES", &names.join(":"));
    Ok(())
}

/// The descriptor of each socket, from the names that systemd gives them: those of their units, in each of which they are in
/// order. `None` when some are missing.
fn order(app: &str, sockets: &[Socket], names: &str) -> Option<Vec<RawFd>> {
    let passed_unit = passed_unit(app);
    let of_unit = |passed: bool| {
        let named = (FIRST..).zip(names.split(':'));
        named.filter(move |(_, name)| (*name == passed_unit) == passed)
    };
    let (mut passed, mut own) = (of_unit.clone()(true), of_unit(false));
    let mut next = |socket: &Socket| match socket.passed {
        true => passed.next(),
        false => own.next(),
    };
    let fds = sockets.iter().map(|socket| Some(next(socket)?.0));
    fds.collect()
}

/// Has the app inherit these descriptors as the first ones, in this order.
fn pass(order: &[RawFd]) -> Result<()> {
    let end = FIRST + RawFd::try_from(order.len())?;
    let mut fds = order
        .iter()
        .map(|fd| inherited_fd(*fd).with_context(|| format!("descriptor {fd}")))
        .collect::<Result<Vec<OwnedFd>>>()?;
    let mut moved = Vec::new();
    for (to, fd) in (FIRST..).zip(&fds) {
        if fd.as_raw_fd() == to {
            fcntl_setfd(fd, FdFlags::empty())?;
        } else {
            moved.push((to, fcntl_dupfd_cloexec(fd, end)?));
        }
    }
    for (to, copy) in moved {
        let place = fds.iter_mut().find(|fd| fd.as_raw_fd() == to);
        dup2(&copy, place.context("a socket comes twice")?)?;
    }
    // They are the app's from here on.
    for fd in fds {
        let _ = fd.into_raw_fd();
    }
    Ok(())
}

/// systemd passes all sockets or none, and does not tell the app why. What it could not do fails here too.
fn missing(sockets: &[Socket]) -> Result<()> {
    for socket in sockets.iter().filter(|socket| !socket.passed) {
        let address = socket.address();
        let listened = match socket.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        listened.with_context(|| format!("port {}: listen on {socket}", socket.name))?;
    }
    bail!("systemd passed none of the app's sockets: see the pod's journal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_two_units_are_put_in_order() {
        let socket = |passed: bool| Socket {
            name: "web".into(),
            protocol: Protocol::Tcp,
            address: None,
            port: 80,
            passed,
        };
        let [own, passed] = ["app-a.socket", "passed-a.socket"];
        for (sockets, names, expected) in [
            (vec![false, false], vec![own, own], Some(vec![3, 4])),
            (vec![true, false], vec![passed, own], Some(vec![3, 4])),
            (vec![true, false], vec![own, passed], Some(vec![4, 3])),
            (
                vec![true, false, true],
                vec![own, passed, passed],
                Some(vec![4, 3, 5]),
            ),
            (vec![true], vec![own], None),
            (vec![false, false], vec![own], None),
        ] {
            let sockets: Vec<_> = sockets.into_iter().map(socket).collect();
            let found = order("a", &sockets, &names.join(":"));
            assert_eq!(found, expected, "{names:?}");
        }
    }
}
