//! What plugins answer to ADD, in every version of the protocol.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Version;
use crate::appc::of_value;

/// What a network gives the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was made; unknown before version 0.3.0.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// The pod's addresses.
    #[serde(default)]
    pub ips: Vec<Address>,
    /// Its routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// How it looks names up.
    #[serde(default)]
    pub dns: Dns,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The namespace it is in; empty for the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// With the length of its network's prefix.
    pub address: IpNet,
    /// The way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: IpNet,
    /// The next hop; by default the gateway of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// How names are looked up (resolv.conf(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Before 0.3.0: at most one address of each kind, with the routes in it.
#[derive(Debug, Deserialize)]
struct Early {
    ip4: Option<EarlyAddress>,
    ip6: Option<EarlyAddress>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct EarlyAddress {
    ip: IpNet,
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
}

impl Outcome {
    /// Reads an answer in a version of the protocol. Fields that are null are as good as not there.
    ///
    /// # Errors
    /// What is wrong with it; the message names the field.
    pub fn parse(mut answer: Value, version: Version) -> Result<Self> {
        // A list would pass for an object without fields.
        ensure!(answer.is_object(), "unexpected answer: must be an object");
        without_null(&mut answer);
        if version >= Version::INTERFACES {
            return of_value(&answer).context("unexpected answer");
        }
        let early: Early = of_value(&answer).context("unexpected answer")?;
        let mut outcome = Outcome {
            dns: early.dns,
            ..Self::default()
        };
        for address in [early.ip4, early.ip6].into_iter().flatten() {
            outcome.ips.push(Address {
                address: address.ip,
                gateway: address.gateway,
                interface: None,
            });
            outcome.routes.extend(address.routes);
        }
        Ok(outcome)
    }

    /// The answer in the present version of the protocol, for plugins that are added to a network of any version.
    ///
    /// # Errors
    /// None is known.
    pub fn to_present(&self) -> Result<Value> {
        let mut answer = serde_json::to_value(self)?;
        answer["cniVersion"] = Version::ONE.to_string().into();
        Ok(answer)
    }
}

fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_all_versions_say_the_same() {
        let routes = json!([{ "dst": "0.0.0.0/0", "gw": null }]);
        let dns = json!({ "nameservers": ["10.0.0.1"] });
        let early = json!({ "ip4": { "ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": routes }, "dns": dns });
        let address = json!({ "version": "4", "address": "10.0.0.2/24", "gateway": "10.0.0.1" });
        let later = json!({ "ips": [address], "routes": routes, "dns": dns, "interfaces": null });
        let outcome = Outcome::parse(early, Version::FIRST).unwrap();
        assert_eq!(Outcome::parse(later, Version::CHECK).unwrap(), outcome);
        let present = outcome.to_present().unwrap();
        assert_eq!(present["cniVersion"], "1.0.0");
        assert_eq!(Outcome::parse(present, Version::ONE).unwrap(), outcome);
        assert_eq!(
            Outcome::parse(json!({}), Version::ONE).unwrap(),
            Outcome::default()
        );
    }

    #[test]
    fn spoilt_answers_name_the_field() {
        let error = |answer| format!("{:#}", Outcome::parse(answer, Version::ONE).unwrap_err());
        let bad = error(json!({ "ips": [{ "address": "10.0.0.1" }] }));
        assert!(
            bad.starts_with("unexpected answer: ips[0].address: "),
            "{bad}"
        );
        assert!(error(json!([])) == "unexpected answer: must be an object");
    }
}
