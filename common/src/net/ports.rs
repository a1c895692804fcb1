//! Ports of the host that lead to ports of apps.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::appc::{ExposedPort, Port};
use crate::listen::Protocol;
use crate::load::Pod;

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// The name of the app's port.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host; all of them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port of the host.
    pub host_port: u16,
    /// The port in the pod.
    pub pod_port: u16,
}

/// The ports that the pod manifest leads to its apps; ranges port by port.
///
/// # Errors
/// A port that no app has, a range past the last port, or two uses of one port; the message names the field.
pub fn forwards(pod: &Pod) -> Result<Vec<Forward>> {
    forwards_where(pod, |_| true)
}

/// The ports that the pod manifest leads to an app that was added to the pod.
///
/// # Errors
/// As [`forwards`].
pub fn forwards_to(pod: &Pod, app: &str) -> Result<Vec<Forward>> {
    forwards_where(pod, |exposed| exposed.app.is_some() && exposed.is_of(app))
}

fn forwards_where(pod: &Pod, wanted: impl Fn(&ExposedPort) -> bool) -> Result<Vec<Forward>> {
    let mut forwards: Vec<Forward> = Vec::new();
    for (i, exposed) in pod.manifest.ports.iter().enumerate() {
        if !wanted(exposed) {
            continue;
        }
        let apps = pod.apps.iter().filter(|app| exposed.is_of(app.name()));
        let mut declared = apps.flat_map(|app| &app.app.ports);
        let port = exposed
            .pod_port
            .as_ref()
            .or_else(|| declared.find(|port| port.name == exposed.name));
        let Some(port) = port else {
            // An app with it may come yet, but nothing could be set up for it then.
            bail!("ports[{i}].name: no app has a port named {}", exposed.name);
        };
        for k in 0..port.count {
            let forward = Forward {
                name: exposed.name.to_string(),
                protocol: protocol(i, port)?,
                host_ip: exposed.host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: nth(i, exposed.host_port, k)?,
                pod_port: nth(i, port.port, k)?,
            };
            if let Some(other) = conflict(&forwards, &forward) {
                bail!(
                    "ports[{i}].hostPort: {forward} leads to port {} already",
                    other.name
                );
            }
            forwards.push(forward);
        }
    }
    Ok(forwards)
}

/// The one of several that has the same port of the host.
pub fn conflict<'a>(forwards: &'a [Forward], new: &Forward) -> Option<&'a Forward> {
    forwards.iter().find(|other| {
        let same_address =
            other.host_ip.is_none() || new.host_ip.is_none() || other.host_ip == new.host_ip;
        other.protocol == new.protocol && other.host_port == new.host_port && same_address
    })
}

fn protocol(i: usize, port: &Port) -> Result<Protocol> {
    match port.protocol.as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => bail!(
            "ports[{i}] ({}): protocol {other:?} must be tcp or udp to be reached from the host",
            port.name
        ),
    }
}

fn nth(i: usize, first: u16, k: u16) -> Result<u16> {
    let port = first.checked_add(k);
    ensure!(port.is_some(), "ports[{i}]: the range goes past port 65535");
    Ok(port.unwrap_or(first))
}

impl Forward {
    /// As plugins with the capability `portMappings` take it.
    pub fn mapping(&self) -> Value {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let mut mapping = json!({
            "hostPort": self.host_port, "containerPort": self.pod_port, "protocol": protocol,
        });
        if let Some(ip) = self.host_ip {
            mapping["hostIP"] = ip.to_string().into();
        }
        mapping
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match self.host_ip {
            Some(ip) => write!(
                f,
                "{protocol} {} of the host",
                SocketAddr::new(ip, self.host_port)
            ),
            None => write!(f, "{protocol} port {} of the host", self.host_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(ip: Option<&str>, host_port: u16) -> Forward {
        Forward {
            name: "web".into(),
            protocol: Protocol::Tcp,
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port,
            pod_port: 80,
        }
    }

    #[test]
    fn a_port_of_the_host_has_one_use() {
        let all = [forward(None, 8080)];
        assert!(conflict(&all, &forward(Some("127.0.0.1"), 8080)).is_some());
        assert!(conflict(&all, &forward(None, 8081)).is_none());
        let one = [forward(Some("127.0.0.1"), 8080)];
        assert!(conflict(&one, &forward(Some("127.0.0.2"), 8080)).is_none());
        let udp = Forward {
            protocol: Protocol::Udp,
            ..forward(None, 8080)
        };
        assert!(conflict(&all, &udp).is_none());
    }

    #[test]
    fn as_plugins_and_people_read_it() {
        let forward = forward(Some("::1"), 8080);
        assert_eq!(forward.to_string(), "tcp [::1]:8080 of the host");
        let expected =
            json!({ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "::1" });
        assert_eq!(forward.mapping(), expected);
    }
}
