//! The ports of the host that lead to the pod, held for its life as ordinary sockets: so that a port that somebody else
//! uses is known before the pod starts, another pod among them, and nobody takes it later.
//!
//! Who connects does not meet these sockets: the rules of the port's plugin apply before a socket is looked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use common::listen::Protocol;
use common::net::Forward;

/// Takes all ports.
///
/// # Errors
/// The first that cannot be had; the message names it.
pub(super) fn hold(forwards: &[Forward]) -> Result<Vec<OwnedFd>> {
    forwards.iter().map(one).collect()
}

fn one(forward: &Forward) -> Result<OwnedFd> {
    let ip = forward.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(ip, forward.host_port);
    let socket = match forward.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(OwnedFd::from),
        Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from),
    };
    socket.with_context(|| format!("port {}: {forward} cannot be had", forward.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let forward = |host_ip: &str| Forward {
            name: "web".into(),
            protocol: Protocol::Tcp,
            host_ip: Some(host_ip.parse().unwrap()),
            host_port: port,
            pod_port: 80,
        };
        let error = format!("{:#}", hold(&[forward("127.0.0.1")]).unwrap_err());
        let start = format!("port web: tcp 127.0.0.1:{port} of the host cannot be had: ");
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(hold(&[forward("127.9.8.7")]).unwrap().len(), 1);
    }
}
