//! The ports of the host that lead to the pod, held for its life as ordinary sockets: so that a port that somebody else
//! uses is known before the pod starts, another pod among them, and nobody takes it later.
//!
//! Who connects does not meet these sockets: the rules of the port's plugin apply before a socket is looked for. Where no
//! rule applies, as for IPv6 to a pod without, the client is turned away, since nobody listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use common::listen::Protocol;
use common::net::Forward;
use rustix::io::{self, Errno};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, listen, shutdown, socket_with,
};

/// Takes all ports.
///
/// # Errors
/// The first that cannot be had; the message names it.
pub(super) fn hold(forwards: &[Forward]) -> Result<Vec<OwnedFd>> {
    forwards.iter().map(one).collect()
}

fn one(forward: &Forward) -> Result<OwnedFd> {
    let port = forward.host_port;
    let held = match forward.host_ip {
        Some(ip) => take(forward.protocol, SocketAddr::new(ip, port)),
        None => all_addresses(forward.protocol, port),
    };
    held.with_context(|| format!("port {}: {forward} cannot be had", forward.name))
}

/// One socket for both families, unless the kernel has no IPv6.
fn all_addresses(protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
    let address = |ip: IpAddr| SocketAddr::new(ip, port);
    match take(protocol, address(Ipv6Addr::UNSPECIFIED.into())) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            take(protocol, address(Ipv4Addr::UNSPECIFIED.into()))
        }
        held => held,
    }
}

fn take(protocol: Protocol, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if family == AddressFamily::INET6 {
        set_ipv6_v6only(&socket, false)?;
    }
    if protocol == Protocol::Udp {
        bind(&socket, &address)?;
        return Ok(socket);
    }
    // Connections of the past, which wait for their end, are in nobody's way, but those who listen are.
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 1)?;
    // The port stays its own, for those too who would share it.
    set_socket_reuseaddr(&socket, false)?;
    shutdown(&socket, Shutdown::Read)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn forward(protocol: Protocol, host_ip: Option<&str>, host_port: u16) -> Forward {
        Forward {
            name: "web".into(),
            protocol,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            pod_port: 80,
        }
    }

    /// A port that can be had, of those that are not given out by themselves.
    fn free(protocol: Protocol, ip: Option<&str>) -> (u16, OwnedFd) {
        let mut ports = (20_000..30_000).map(|port| (port, forward(protocol, ip, port)));
        let held = ports.find_map(|(port, forward)| Some((port, one(&forward).ok()?)));
        held.unwrap()
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let forward = |ip| forward(Protocol::Tcp, ip, port);
        let error = format!("{:#}", hold(&[forward(Some("127.0.0.1"))]).unwrap_err());
        let start = format!("port web: tcp 127.0.0.1:{port} of the host cannot be had: ");
        assert!(error.starts_with(&start), "{error}");
        // All addresses are this one, too.
        let error = format!("{:#}", hold(&[forward(None)]).unwrap_err());
        assert!(error.contains(&format!("tcp port {port} of")), "{error}");
        assert_eq!(hold(&[forward(Some("127.9.8.7"))]).unwrap().len(), 1);
    }

    #[test]
    fn a_port_that_is_held_is_nobody_elses_and_turns_clients_away() {
        let (port, _held) = free(Protocol::Tcp, None);
        for ip in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            let address = SocketAddr::new(ip.parse().unwrap(), port);
            // A machine may have no IPv6.
            if !address.ip().is_unspecified() && UdpSocket::bind((address.ip(), 0)).is_err() {
                continue;
            }
            assert!(TcpListener::bind(address).is_err(), "{address}");
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        assert!(one(&forward(Protocol::Tcp, Some("127.0.0.1"), port)).is_err());
    }

    #[test]
    fn datagrams_of_both_families_are_held() {
        let (port, _held) = free(Protocol::Udp, None);
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_err());
        // A machine may have no IPv6.
        if UdpSocket::bind("[::1]:0").is_ok() {
            assert!(UdpSocket::bind(("::1", port)).is_err());
            let (port, _held) = free(Protocol::Udp, Some("::1"));
            assert!(one(&forward(Protocol::Udp, None, port)).is_err());
        }
    }
}
