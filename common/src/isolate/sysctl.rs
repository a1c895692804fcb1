//! `os/unix/sysctl`: kernel parameters of a pod.
//!
//! Only parameters that belong to a namespace of the pod's own are for a pod to set; all others are the host's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::appc::Isolator;
use crate::appc::isolator::{SYSCTL, isolator};
use crate::net::Network;
use crate::options::{Ipc, RunOptions};

/// Parameters of an IPC namespace (ipc_namespaces(7)); one that ends in `*` stands for all that begin so.
const IPC: [&str; 4] = ["kernel.msg*", "kernel.sem", "kernel.shm*", "fs.mqueue.*"];
/// Parameters of a network namespace. The few that are the host's alone are not there in one.
const NET: [&str; 1] = ["net.*"];

/// The parameters that the pod asks for, by name.
///
/// # Errors
/// A parameter that is not the pod's own; the message names it.
pub fn parameters(
    isolators: &[Isolator],
    options: &RunOptions,
) -> Result<BTreeMap<String, String>> {
    let Some(isolator) = isolator(isolators, SYSCTL) else {
        return Ok(BTreeMap::new());
    };
    let parse = || -> Result<_> {
        let Some(object) = isolator.value.as_object() else {
            bail!("{} must be an object of names and values", isolator.value);
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in object {
            let value = value
                .as_str()
                .with_context(|| format!("{name}: {value} must be a string"))?;
            check(name, value, options).with_context(|| name.clone())?;
            parameters.insert(name.clone(), value.to_owned());
        }
        Ok(parameters)
    };
    parse().context(SYSCTL)
}

fn check(name: &str, value: &str, options: &RunOptions) -> Result<()> {
    let well_formed = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !name.split('.').all(well_formed) {
        bail!("must be words of letters, digits, _ and - with dots between");
    }
    if value.is_empty() || value.contains(['\0', '\n']) {
        bail!("the value must be one line");
    }
    let matches = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    if IPC.iter().any(matches) {
        if options.ipc == Ipc::Parent {
            bail!("the pod has the IPC namespace of its parent, whose parameters it must not set");
        }
    } else if NET.iter().any(matches) {
        if options.network == Network::Host {
            bail!("the pod has the host's network, whose parameters it must not set");
        }
    } else {
        bail!(
            "is the host's: a pod may only set {} and {}",
            IPC.join(", "),
            NET.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asked(value: Value, args: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let flags =
            crate::flags::parse(&crate::options::FLAGS, args.iter().map(Into::into)).unwrap();
        let options = RunOptions::from_flags(&flags).unwrap();
        let isolators: Vec<Isolator> =
            serde_json::from_value(json!([{"name": SYSCTL, "value": value}])).unwrap();
        parameters(&isolators, &options).map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn the_pods_own() {
        let own = json!({
            "kernel.shmmax": "1", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "5", "net.ipv4.ip_forward": "1",
        });
        assert_eq!(asked(own, &[]).unwrap().len(), 4);
    }

    #[test]
    fn not_the_pods_own() {
        for (value, args, error) in [
            (
                json!({"vm.swappiness": "1"}),
                &[][..],
                "vm.swappiness: is the host's",
            ),
            (
                json!({"kernel.semx": "1"}),
                &[],
                "kernel.semx: is the host's",
            ),
            (
                json!({"net.ipv4/../x": "1"}),
                &[],
                "net.ipv4/../x: must be words",
            ),
            (json!({"net..x": "1"}), &[], "net..x: must be words"),
            (json!({"net.x": 1}), &[], "net.x: 1 must be a string"),
            (
                json!({"net.x": ""}),
                &[],
                "net.x: the value must be one line",
            ),
            (
                json!({"net.x": "1"}),
                &["--net=host"],
                "net.x: the pod has the host's network",
            ),
            (
                json!({"kernel.sem": "1"}),
                &["--ipc=parent"],
                "kernel.sem: the pod has the IPC namespace",
            ),
            (json!([]), &[], "[] must be an object"),
        ] {
            let found = asked(value, args).unwrap_err();
            assert!(
                found.starts_with(&format!("os/unix/sysctl: {error}")),
                "{found}"
            );
        }
    }
}
