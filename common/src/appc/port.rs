//! Ports of apps, and ports of the host that lead to them.

use std::net::IpAddr;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field::{Checked, Field};
use super::json;
use super::name::AcName;

/// A port, or a range of ports, that the app listens on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The name by which ports of the host refer to it.
    pub name: AcName,
    /// The protocol, for instance `tcp` or `udp`; only these two can be reached from the host.
    pub protocol: String,
    /// The first port.
    pub port: u16,
    /// How many ports, from the first on.
    #[serde(default = "one", deserialize_with = "count")]
    #[serde(skip_serializing_if = "is_one")]
    pub count: u16,
    /// Whether the app is given the listening socket.
    #[serde(default, deserialize_with = "json::null_is_default")]
    #[serde(skip_serializing_if = "json::is_false")]
    pub socket_activated: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A port of the host that leads to a port of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// The name of the app's port.
    pub name: AcName,
    /// The port on the host.
    pub host_port: u16,
    /// The address on the host; all of them by default.
    #[serde(rename = "hostIP")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The app whose port it is, where several have one of this name; this project's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AcName>,
    /// The port in the pod, in place of a port that an app declares under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_port: Option<Port>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ExposedPort {
    /// Whether it may lead to a port of this app.
    pub fn is_of(&self, app: &str) -> bool {
        self.app.as_ref().is_none_or(|own| own.as_str() == app)
    }
}

fn one() -> u16 {
    1
}

fn is_one(count: &u16) -> bool {
    *count == 1
}

/// A count, in which `null` and 0 mean that none is given: the specification's own tools write 0.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let count = Option::<u16>::deserialize(deserializer)?;
    Ok(count.unwrap_or(1).max(1))
}

impl Port {
    pub(super) fn check(&self, field: &Field) -> Checked {
        if self.protocol.is_empty() {
            return Err(field.key("protocol").broken("must not be empty"));
        }
        check_range(&field.key("port"), self.port, self.count)
    }

    /// Checks that the host can lead something to it.
    pub(super) fn check_reachable(&self, field: &Field) -> Checked {
        if !matches!(self.protocol.as_str(), "tcp" | "udp") {
            let rule = "must be tcp or udp to be reached from the host";
            return Err(field.key("protocol").refused(self.protocol.as_str(), rule));
        }
        Ok(())
    }
}

/// Checks the first of `count` ports.
pub(super) fn check_range(field: &Field, first: u16, count: u16) -> Checked {
    if first == 0 {
        return Err(field.refused(first, json::PORT_RULE));
    }
    if u32::from(first) + u32::from(count) > 65536 {
        let rule = format!("must with a count of {count} not go past 65535");
        return Err(field.refused(first, rule));
    }
    Ok(())
}
