//! Sockets that the caller of the run entrypoint has opened for the pod, as systemd does for a service with socket units
//! (sd_listen_fds(3)): which of them each app is given.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Result, bail};

use crate::listen::{Protocol, Socket, Sockets};

/// A socket that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The name that the caller has for it (systemd.socket(5), `FileDescriptorName=`).
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that it is bound to.
    pub address: SocketAddr,
}

impl Passed {
    /// Whether a socket of an app could be this one.
    fn suits(&self, socket: &Socket) -> bool {
        !socket.passed && socket.protocol == self.protocol
    }

    /// Whether it is listened on with the number, and where the app asks for one, the address of this one.
    fn has_number_of(&self, socket: &Socket) -> bool {
        let address = socket.address.is_none_or(|ip| ip == self.address.ip());
        self.suits(socket) && socket.port == self.address.port() && address
    }

    /// Makes it the socket of an app.
    fn become_socket(&self, socket: &mut Socket) {
        socket.address = Some(self.address.ip());
        socket.port = self.address.port();
        socket.passed = true;
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.name, self.protocol, self.address)
    }
}

/// Puts the sockets that were passed into the places of those that the apps of a pod would have listened on: first those
/// that are called like a port, then those that have the number of one.
///
/// # Errors
/// A socket for which there is no port, or more than one; the message names it.
pub(crate) fn place(sockets: &mut Sockets, passed: &[Passed]) -> Result<()> {
    let mut unnamed = Vec::new();
    for socket in passed {
        if !place_by_name(sockets, socket)? {
            unnamed.push(socket);
        }
    }
    for socket in unnamed {
        let mut all = sockets.values_mut().flatten();
        let Some(place) = all.find(|place| socket.has_number_of(place)) else {
            bail!(
                "LISTEN_FDS: socket {socket} has neither the name nor the number of a socket-activated port of the pod"
            );
        };
        socket.become_socket(place);
    }
    Ok(())
}

/// False when no port is called so. A port takes every socket of its name.
fn place_by_name(sockets: &mut Sockets, passed: &Passed) -> Result<bool> {
    let mut named = sockets
        .iter_mut()
        .filter(|(_, own)| own.iter().any(|socket| socket.name == passed.name));
    let Some((app, own)) = named.next() else {
        return Ok(false);
    };
    if let Some((other, _)) = named.next() {
        bail!("LISTEN_FDS: socket {passed}: app {app} and app {other} have a port of this name");
    }
    let of_name = |socket: &Socket| socket.name == passed.name;
    let exact = own
        .iter()
        .position(|socket| of_name(socket) && passed.has_number_of(socket));
    let any = || {
        own.iter()
            .position(|socket| of_name(socket) && passed.suits(socket))
    };
    if let Some(at) = exact.or_else(any) {
        passed.become_socket(&mut own[at]);
        return Ok(true);
    }
    let Some(last) = own.iter().rposition(of_name) else {
        return Ok(false);
    };
    if own[last].protocol != passed.protocol {
        bail!(
            "LISTEN_FDS: socket {passed}: port {} of app {app} is {}",
            passed.name,
            own[last].protocol
        );
    }
    let mut more = own[last].clone();
    passed.become_socket(&mut more);
    own.insert(last + 1, more);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str, protocol: Protocol, port: u16) -> Socket {
        Socket {
            name: name.into(),
            protocol,
            address: None,
            port,
            passed: false,
        }
    }

    fn passed(name: &str, address: &str) -> Passed {
        Passed {
            name: name.into(),
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
        }
    }

    /// What two apps are given: `NAME ADDRESS` for each that was passed, `NAME PORT` for the others.
    fn placed(given: &[Passed]) -> Result<String, String> {
        let web = own("web", Protocol::Tcp, 80);
        let admin = own("admin", Protocol::Tcp, 81);
        let dns = own("dns", Protocol::Udp, 53);
        let twice = own("twice", Protocol::Tcp, 90);
        let again = own("twice", Protocol::Tcp, 91);
        let mut sockets = Sockets::from([
            ("a".to_owned(), vec![web, admin, twice]),
            ("b".to_owned(), vec![dns, again]),
        ]);
        place(&mut sockets, given).map_err(|err| err.to_string())?;
        let shown = |socket: &Socket| match (socket.passed, socket.address) {
            (true, Some(ip)) => format!("{} {}", socket.name, SocketAddr::new(ip, socket.port)),
            _ => format!("{} {}", socket.name, socket.port),
        };
        let all: Vec<_> = sockets.values().flatten().map(shown).collect();
        Ok(all.join(", "))
    }

    #[test]
    fn sockets_go_to_ports_by_name_then_by_number() {
        for (given, expected) in [
            (vec![], "web 80, admin 81, twice 90, dns 53, twice 91"),
            (
                vec![passed("web", "[::]:8080")],
                "web [::]:8080, admin 81, twice 90, dns 53, twice 91",
            ),
            (
                vec![passed("x.socket", "127.0.0.1:81")],
                "web 80, admin 127.0.0.1:81, twice 90, dns 53, twice 91",
            ),
            (
                // A name wins, wherever it stands.
                vec![passed("x", "0.0.0.0:80"), passed("admin", "[::1]:80")],
                "web 0.0.0.0:80, admin [::1]:80, twice 90, dns 53, twice 91",
            ),
            (
                vec![passed("web", "[::1]:1"), passed("web", "[::1]:80")],
                "web [::1]:1, web [::1]:80, admin 81, twice 90, dns 53, twice 91",
            ),
        ] {
            assert_eq!(placed(&given).as_deref(), Ok(expected), "{given:?}");
        }
    }

    #[test]
    fn a_socket_without_its_port_is_an_error() {
        for (given, error) in [
            (
                passed("x", "0.0.0.0:53"),
                "x (tcp 0.0.0.0:53) has neither the name nor the number of a socket-activated port of the pod",
            ),
            (
                passed("dns", "0.0.0.0:53"),
                "dns (tcp 0.0.0.0:53): port dns of app b is udp",
            ),
            (
                passed("twice", "0.0.0.0:90"),
                "twice (tcp 0.0.0.0:90): app a and app b have a port of this name",
            ),
        ] {
            let found = placed(&[given]).unwrap_err();
            assert_eq!(found, format!("LISTEN_FDS: socket {error}"));
        }
    }
}
