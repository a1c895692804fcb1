//! `--dns` and `--hosts-entry`.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};

/// Where the apps' `resolv.conf` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dns {
    /// The host's file.
    Host,
    /// No file but the image's own.
    None,
    /// A name server.
    Server(IpAddr),
}

/// What the apps' `hosts` file gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostsEntry {
    /// The host's file.
    Host,
    /// One more line.
    Line {
        /// The address.
        ip: IpAddr,
        /// The names that lead to it.
        names: Vec<String>,
    },
}

/// `host`, `none` or the address of a name server.
pub(crate) fn dns(text: &str) -> Result<Dns> {
    match text {
        "host" => Ok(Dns::Host),
        "none" => Ok(Dns::None),
        _ => {
            let server = text
                .parse()
                .ok()
                .with_context(|| format!("{text:?}: must be host, none or an IP address"))?;
            Ok(Dns::Server(server))
        }
    }
}

/// `host` or `IP=NAME[,NAME…]`.
pub(crate) fn hosts_entry(text: &str) -> Result<HostsEntry> {
    if text == "host" {
        return Ok(HostsEntry::Host);
    }
    let (ip, names) = text.split_once('=').context("must be IP=NAME or host")?;
    let ip = ip
        .parse()
        .ok()
        .with_context(|| format!("{ip:?}: must be an IP address"))?;
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    for name in &names {
        let valid = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        ensure!(
            valid,
            "host name {name:?}: must be letters, digits, '-', '.' and '_'"
        );
    }
    Ok(HostsEntry::Line { ip, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        assert_eq!(dns("host").unwrap(), Dns::Host);
        assert_eq!(dns("none").unwrap(), Dns::None);
        assert_eq!(dns("::1").unwrap(), Dns::Server("::1".parse().unwrap()));
        for text in ["", "Host", "8.8.8", "8.8.8.8:53"] {
            assert_eq!(
                dns(text).unwrap_err().to_string(),
                format!("{text:?}: must be host, none or an IP address")
            );
        }
    }

    #[test]
    fn entries() {
        assert_eq!(hosts_entry("host").unwrap(), HostsEntry::Host);
        assert_eq!(
            hosts_entry("10.0.0.1=db,db.example").unwrap(),
            HostsEntry::Line {
                ip: "10.0.0.1".parse().unwrap(),
                names: vec!["db".into(), "db.example".into()]
            }
        );
        let rule = "must be letters, digits, '-', '.' and '_'";
        for (text, expected) in [
            ("", "must be IP=NAME or host".to_owned()),
            ("db", "must be IP=NAME or host".to_owned()),
            ("db=10.0.0.1", "\"db\": must be an IP address".to_owned()),
            ("10.0.0.1=", format!("host name \"\": {rule}")),
            ("10.0.0.1=a,", format!("host name \"\": {rule}")),
            ("10.0.0.1=a b", format!("host name \"a b\": {rule}")),
            ("10.0.0.1=a\nb", format!("host name \"a\\nb\": {rule}")),
        ] {
            assert_eq!(
                hosts_entry(text).unwrap_err().to_string(),
                expected,
                "{text:?}"
            );
        }
    }
}
