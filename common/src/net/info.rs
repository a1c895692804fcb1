//! What stage0s are told of a pod's networks: `net-info.json` in the pod directory (contract.md).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetInfo {
    /// The network's name.
    pub net_name: String,
    /// The file of its configuration.
    pub net_conf: PathBuf,
    /// Its first plugin.
    pub plugin_path: PathBuf,
    /// The interface in the pod.
    pub if_name: String,
    /// The pod's address; one of IPv4 if there is one. Empty when the network gives none.
    #[serde(with = "maybe_address")]
    pub ip: Option<IpAddr>,
    /// The arguments of its plugins.
    pub args: String,
    /// The mask of the address, as an address.
    #[serde(with = "maybe_address")]
    pub mask: Option<IpAddr>,
    /// Every address with the length of its prefix; this project's own.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
}

impl NetInfo {
    /// Sets the addresses: all of them, and the one that stands for them.
    pub fn with_addresses(mut self, addresses: Vec<IpNet>) -> Self {
        let of_four = addresses.iter().find(|net| net.addr().is_ipv4());
        let first = of_four.or(addresses.first());
        self.ip = first.map(IpNet::addr);
        self.mask = first.map(IpNet::netmask);
        self.addresses = addresses;
        self
    }
}

/// Reads the networks of a pod; `None` when the file is not there.
///
/// # Errors
/// When it is not as it was written.
pub fn read_infos(path: &Path) -> Result<Option<Vec<NetInfo>>> {
    let context = || format!("read {}", path.display());
    match std::fs::read(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        content => serde_json::from_slice(&content.with_context(context)?)
            .map(Some)
            .with_context(context),
    }
}

/// Go's way: no address is an empty string.
mod maybe_address {
    use std::net::IpAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(ip: &Option<IpAddr>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&ip.map(|ip| ip.to_string()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<IpAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        match text.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> NetInfo {
        NetInfo {
            net_name: "default".into(),
            net_conf: "/etc/rkt/net.d/10.conf".into(),
            plugin_path: "/usr/lib/cni/ptp".into(),
            if_name: "eth0".into(),
            ip: None,
            args: String::new(),
            mask: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn as_rkt_reads_it() {
        let addresses = ["fd00::2/64", "172.16.28.2/24"].map(|a| a.parse().unwrap());
        let json = serde_json::to_value(info().with_addresses(addresses.into())).unwrap();
        assert_eq!(
            (&json["ip"], &json["mask"]),
            (&"172.16.28.2".into(), &"255.255.255.0".into())
        );
        assert_eq!(json["netName"], "default");
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let of_rkt = [
            "netName",
            "netConf",
            "pluginPath",
            "ifName",
            "ip",
            "args",
            "mask",
        ];
        assert_eq!(names[..7], of_rkt);
        let none = serde_json::to_value(info()).unwrap();
        assert_eq!(none["ip"], "");
        assert_eq!(serde_json::from_value::<NetInfo>(none).unwrap(), info());
    }
}
