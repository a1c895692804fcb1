//! The ports and volumes that the configuration of an OCI or docker image declares.

use std::collections::HashMap;

use anyhow::{Result, bail};
use common::appc::{MountPoint, Port};
use serde_json::Map;

use super::convert::absolute;
use super::reference;

/// Ports from `8080/tcp`, `53/udp`, `80`, `8000-8010/tcp`.
pub(super) fn ports(exposed: &[String]) -> Result<Vec<Port>> {
    let mut ports = exposed
        .iter()
        .map(|text| port(text))
        .collect::<Result<Vec<_>>>()?;
    ports.sort_by_key(|p| (p.port, p.protocol.clone()));
    ports.dedup_by(|a, b| a.name == b.name);
    Ok(ports)
}

fn port(text: &str) -> Result<Port> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        bail!("config.ExposedPorts: {text:?}: must be PORT[-PORT][/PROTOCOL]");
    };
    let Some(further) = last.checked_sub(first).filter(|_| first > 0) else {
        bail!("config.ExposedPorts: {text:?}: must be a range of ports from 1 to 65535");
    };
    Ok(Port {
        name: reference::ac_name(&format!("{range}/{protocol}"))?,
        protocol,
        port: first,
        count: further.saturating_add(1),
        socket_activated: false,
        extra: Map::new(),
    })
}

/// A mount point for each volume, named after its path: `volume-data` for `/data`.
pub(super) fn mount_points(volumes: &[String]) -> Result<Vec<MountPoint>> {
    let mut paths: Vec<_> = volumes.iter().map(|v| absolute(v)).collect();
    paths.sort();
    paths.dedup();
    let mut used: HashMap<String, u32> = HashMap::new();
    let mut points = Vec::new();
    for path in paths {
        let mut name = reference::ac_name(&format!("volume/{path}"))?;
        let count = used.entry(name.to_string()).or_default();
        if *count > 0 {
            name = format!("{name}-{count}").parse()?;
        }
        *count += 1;
        points.push(MountPoint {
            name,
            path,
            read_only: false,
            extra: Map::new(),
        });
    }
    Ok(points)
}
