//! The sockets of apps with socket-activated ports (appc specification, `socketActivated`): systemd listens as the pod
//! starts, and gives them to the app by the protocol of sd_listen_fds(3).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::appc::{ExposedPort, Port};
use crate::load::{Pod, PodApp};
use crate::net::Network;
use crate::passed::{self, Passed};

/// How many sockets an app may have: a process has 1024 descriptors by default.
const MOST: usize = 1000;

/// A socket that an app is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Socket {
    /// The name of the port, which several sockets may have.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address; all of them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The number of the port.
    pub port: u16,
    /// Whether the caller of the run entrypoint has opened it ([`crate::passed`]); otherwise systemd does, in the pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
}

/// The protocols that an app can be given sockets of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Streams: the app accepts connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The sockets of each app that has any, by the app's name, in the order of its ports.
pub type Sockets = BTreeMap<String, Vec<Socket>>;

impl Socket {
    /// As a unit of systemd names it (systemd.socket(5), `ListenStream=`): a port alone is one of all addresses.
    pub fn directive(&self) -> (&'static str, String) {
        let key = match self.protocol {
            Protocol::Tcp => "ListenStream",
            Protocol::Udp => "ListenDatagram",
        };
        let address = self
            .address
            .map(|ip| SocketAddr::new(ip, self.port).to_string());
        (key, address.unwrap_or_else(|| self.port.to_string()))
    }

    /// The address to listen on; that of IPv6 takes IPv4 too.
    pub fn address(&self) -> SocketAddr {
        let all = Ipv6Addr::UNSPECIFIED.into();
        SocketAddr::new(self.address.unwrap_or(all), self.port)
    }

    /// Whether both cannot be open at a time in one network. Those that were passed are open.
    fn excludes(&self, other: &Self) -> bool {
        let all = |s: &Self| s.address.is_none_or(|ip| ip.is_unspecified());
        let same_address = all(self) || all(other) || self.address == other.address;
        self.protocol == other.protocol && self.port == other.port && same_address
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol;
        match self.address {
            Some(ip) => write!(f, "{protocol} {}", SocketAddr::new(ip, self.port)),
            None => write!(f, "{protocol} port {}", self.port),
        }
    }
}

/// The sockets of the pod's apps. A port that the pod manifest maps to one of the host has the host's number, as in rkt:
/// that is where clients look for it. But where plugins forward the host's ports it has its own, to which they lead. Those
/// that the caller has passed take the places of their ports.
///
/// # Errors
/// A protocol without sockets, two sockets for one port, or one that was passed for none; the message names the field.
pub fn sockets(pod: &Pod, network: &Network, passed: &[Passed]) -> Result<Sockets> {
    let mut sockets = Sockets::new();
    for app in &pod.apps {
        let own = of_app(pod, app, network).with_context(|| format!("app {}", app.name()))?;
        if !own.is_empty() {
            sockets.insert(app.name().to_owned(), own);
        }
    }
    passed::place(&mut sockets, passed)?;
    check(&sockets, &Sockets::new(), network)?;
    Ok(sockets)
}

/// Whether `new` sockets can be open at a time, also beside those that are there already.
///
/// # Errors
/// The first that cannot, with the names of both apps and ports.
pub fn check(new: &Sockets, there: &Sockets, network: &Network) -> Result<()> {
    // What was open already is in the host's network, the others are in the pod's.
    let in_pod = |(_, socket): &(&String, &Socket)| !socket.passed || *network == Network::Host;
    let mut all: Vec<_> = each(there).filter(in_pod).collect();
    for (app, socket) in each(new).filter(in_pod) {
        let excluded = |(_, other): &&(&String, &Socket)| {
            !(socket.passed && other.passed) && socket.excludes(other)
        };
        if let Some((other, same)) = all.iter().find(excluded) {
            bail!(
                "app {app}: app.ports ({}): {socket} is that of port {} of app {other}: give it another number, or map it to another port of the host",
                socket.name,
                same.name
            );
        }
        all.push((app, socket));
    }
    Ok(())
}

fn each(sockets: &Sockets) -> impl Iterator<Item = (&String, &Socket)> {
    let of_app = |(app, sockets)| std::iter::repeat(app).zip(sockets);
    sockets.iter().flat_map(of_app)
}

fn of_app(pod: &Pod, app: &PodApp, network: &Network) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for (i, port) in app.app.ports.iter().enumerate() {
        if !port.socket_activated {
            continue;
        }
        let protocol = match port.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => bail!(
                "app.ports[{i}].protocol: {other:?} must be tcp or udp, as the port is socket-activated"
            ),
        };
        let field = format!("app.ports[{i}]");
        for (address, first) in numbers(pod, app.name(), port, network) {
            let last = u32::from(first) + u32::from(port.count) - 1;
            ensure!(
                u16::try_from(last).is_ok(),
                "{field}: with a count of {} it goes past 65535",
                port.count
            );
            ensure!(
                sockets.len() + usize::from(port.count) <= MOST,
                "{field}.count: an app can have {MOST} sockets at most"
            );
            sockets.extend((0..port.count).map(|k| Socket {
                name: port.name.to_string(),
                protocol,
                address,
                port: first + k,
                passed: false,
            }));
        }
    }
    Ok(sockets)
}

/// Where a port of an app is listened on: on every port of the host that is mapped to it, else on its own number.
fn numbers(pod: &Pod, app: &str, port: &Port, network: &Network) -> Vec<(Option<IpAddr>, u16)> {
    if network.has_plugins() {
        return vec![(None, port.port)];
    }
    let exposed = pod.manifest.ports.iter();
    let exposed = exposed.filter(|e| e.name == port.name && e.is_of(app));
    let numbers: Vec<_> = exposed
        // The host's addresses are only in the host's network.
        .map(|e| (e.host_ip.filter(|_| *network == Network::Host), e.host_port))
        .collect();
    if numbers.is_empty() {
        return vec![(None, port.port)];
    }
    numbers
}

/// What the user should know of ports of the host that lead nowhere.
pub(crate) fn warnings(pod: &Pod, network: &Network) -> Vec<String> {
    let why = match network {
        Network::All | Network::Networks(_) => return Vec::new(),
        Network::Host => "in the host's network an app listens on its own number",
        Network::None => "the pod has no network",
        Network::Given(_) => "the pod's network is set up by somebody else",
    };
    let activated = |name: &str| {
        let mut ports = pod.apps.iter().flat_map(|app| &app.app.ports);
        ports.any(|port| port.socket_activated && port.name.as_str() == name)
    };
    // Those of the pod, and of the apps that it is about.
    let of_apps = |exposed: &&ExposedPort| {
        exposed.app.is_none() || pod.apps.iter().any(|app| exposed.is_of(app.name()))
    };
    let exposed = pod.manifest.ports.iter().filter(of_apps);
    exposed
        .filter(|exposed| !activated(exposed.name.as_str()))
        .map(|exposed| {
            format!(
                "port {} of the host is not led to port {} of an app: {why}",
                exposed.host_port, exposed.name
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(protocol: Protocol, address: Option<&str>, port: u16) -> Socket {
        Socket {
            name: "web".into(),
            protocol,
            address: address.map(|ip| ip.parse().unwrap()),
            port,
            passed: false,
        }
    }

    #[test]
    fn addresses_as_systemd_and_people_read_them() {
        for (address, directive, shown) in [
            (None, "80", "tcp port 80"),
            (Some("10.0.0.1"), "10.0.0.1:80", "tcp 10.0.0.1:80"),
            (Some("::1"), "[::1]:80", "tcp [::1]:80"),
        ] {
            let socket = socket(Protocol::Tcp, address, 80);
            assert_eq!(socket.directive(), ("ListenStream", directive.to_owned()));
            assert_eq!(socket.to_string(), shown);
        }
        let udp = socket(Protocol::Udp, None, 53);
        assert_eq!(udp.directive(), ("ListenDatagram", "53".to_owned()));
    }

    #[test]
    fn one_port_has_one_socket() {
        let tcp = |address, port| socket(Protocol::Tcp, address, port);
        assert!(tcp(None, 80).excludes(&tcp(Some("::1"), 80)));
        assert!(tcp(Some("10.0.0.1"), 80).excludes(&tcp(Some("0.0.0.0"), 80)));
        assert!(tcp(Some("::1"), 80).excludes(&tcp(Some("::1"), 80)));
        assert!(!tcp(Some("::1"), 80).excludes(&tcp(Some("127.0.0.1"), 80)));
        assert!(!tcp(None, 80).excludes(&tcp(None, 81)));
        assert!(!tcp(None, 80).excludes(&socket(Protocol::Udp, None, 80)));
    }
}
