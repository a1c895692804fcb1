//! `--port`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use common::appc::ExposedPort;

/// `NAME:[HOSTIP:]HOSTPORT`.
pub(crate) fn port(text: &str) -> Result<ExposedPort> {
    let (name, number) = text
        .split_once(':')
        .context("must be NAME:[HOSTIP:]HOSTPORT")?;
    let name = name
        .parse()
        .with_context(|| format!("port name {name:?}"))?;
    let (host_ip, host_port) = match number.parse() {
        Ok(port) => (None, port),
        Err(_) => {
            let address: SocketAddr = number
                .parse()
                .ok()
                .with_context(|| format!("{number:?}: must be [HOSTIP:]HOSTPORT"))?;
            (Some(address.ip()), address.port())
        }
    };
    ensure!(
        host_port > 0,
        "{number:?}: the port must be from 1 to 65535"
    );
    Ok(ExposedPort {
        name,
        host_port,
        host_ip,
        app: None,
        pod_port: None,
        extra: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_host() {
        for (text, ip, number) in [
            ("web:8080", None, 8080),
            ("web:127.0.0.1:80", Some("127.0.0.1"), 80),
            ("web:[::1]:80", Some("::1"), 80),
        ] {
            let port = port(text).unwrap();
            assert_eq!((port.name.as_str(), port.host_port), ("web", number));
            assert_eq!(port.host_ip, ip.map(|ip| ip.parse().unwrap()));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, start) in [
            ("web", "must be NAME:[HOSTIP:]HOSTPORT"),
            ("We_b:80", "port name \"We_b\""),
            ("web:65536", "\"65536\": must be [HOSTIP:]HOSTPORT"),
            ("web:::1:80", "\"::1:80\": must be"),
            ("web:0", "\"0\": the port must be from 1 to 65535"),
            ("web:10.0.0.1:0", "\"10.0.0.1:0\": the port must be"),
        ] {
            let error = format!("{:#}", port(text).unwrap_err());
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }
}
