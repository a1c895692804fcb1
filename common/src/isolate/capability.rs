//! Capabilities: which ones an app's programs can have at most (its bounding set).

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use caps::{Capability, CapsHashSet};
use serde_json::Value;

use crate::appc::Isolator;
use crate::appc::isolator::{CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET, isolator};

/// The capabilities of an app that asks for none (appc specification, "os/linux/capabilities-remove-set").
pub const DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_MKNOD,
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_SETFCAP,
];

/// What systemd, journald and prepare-app need themselves: mounts and namespaces, identities and bounding sets, files of
/// any owner, device nodes, limits, and a look at the senders of log lines.
pub const SUPERVISOR: [Capability; 13] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RESOURCE,
];

/// What a pod has whose apps have `apps` between them.
pub fn of_pod(apps: &CapsHashSet) -> CapsHashSet {
    apps.iter().copied().chain(SUPERVISOR).collect()
}

/// The bounding set that `isolators` ask for. `last` is the kernel's last capability ([`last`]).
///
/// # Errors
/// Both isolators, or a name that the kernel does not know; the message names the isolator.
pub fn bounding(isolators: &[Isolator], last: u8) -> Result<CapsHashSet> {
    let set = |name: &str| {
        isolator(isolators, name).map(|i| parse(&i.value, last).with_context(|| name.to_owned()))
    };
    match (
        set(CAPABILITIES_RETAIN_SET).transpose()?,
        set(CAPABILITIES_REMOVE_SET).transpose()?,
    ) {
        (Some(_), Some(_)) => {
            bail!("{CAPABILITIES_RETAIN_SET}: excludes {CAPABILITIES_REMOVE_SET}")
        }
        (Some(retain), None) => Ok(retain),
        (None, remove) => {
            let mut bounding = CapsHashSet::from(DEFAULT);
            remove.iter().flatten().for_each(|capability| {
                bounding.remove(capability);
            });
            Ok(bounding)
        }
    }
}

/// The names of a set, in the kernel's order.
pub fn names(set: &CapsHashSet) -> Vec<String> {
    let mut sorted: Vec<_> = set.iter().collect();
    sorted.sort_by_key(|capability| capability.index());
    sorted.iter().map(ToString::to_string).collect()
}

/// Every capability of the kernel.
pub fn all(last: u8) -> CapsHashSet {
    caps::all()
        .into_iter()
        .filter(|capability| capability.index() <= last)
        .collect()
}

/// The number of the kernel's last capability, from the proc file system at `proc`.
pub fn last(proc: &Path) -> Result<u8> {
    let path = proc.join("sys/kernel/cap_last_cap");
    let content =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    content
        .trim()
        .parse()
        .with_context(|| format!("{}: {content:?} is not a number", path.display()))
}

fn parse(value: &Value, last: u8) -> Result<CapsHashSet> {
    let set = value
        .get("set")
        .and_then(Value::as_array)
        .context("set: must be a list of names")?;
    let mut capabilities = CapsHashSet::new();
    for (i, name) in set.iter().enumerate() {
        let name = name
            .as_str()
            .with_context(|| format!("set[{i}]: {name} must be a name"))?;
        let known = Capability::from_str(name)
            .ok()
            .filter(|capability| capability.index() <= last);
        let Some(capability) = known else {
            bail!(
                "set[{i}]: {name:?} is no capability of this kernel{}",
                near(name, last)
            );
        };
        capabilities.insert(capability);
    }
    Ok(capabilities)
}

/// A question after names that may have been meant, or nothing.
fn near(name: &str, last: u8) -> String {
    let name = name.to_ascii_uppercase();
    crate::alike::meant(&name, names(&all(last)).iter().map(String::as_str), "CAP_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(isolators: Value) -> Result<Vec<String>, String> {
        let isolators: Vec<Isolator> = serde_json::from_value(isolators).unwrap();
        let set = bounding(&isolators, 40).map_err(|err| format!("{err:#}"))?;
        Ok(names(&set))
    }

    #[test]
    fn sets_are_kept_or_taken_away() {
        assert_eq!(asked(json!([])).unwrap().len(), 14);
        let retain = json!([{"name": CAPABILITIES_RETAIN_SET, "value": {"set": ["CAP_SYS_ADMIN", "CAP_KILL"]}}]);
        assert_eq!(asked(retain).unwrap(), ["CAP_KILL", "CAP_SYS_ADMIN"]);
        let remove = json!([{"name": CAPABILITIES_REMOVE_SET, "value": {"set": ["CAP_KILL", "CAP_SYS_ADMIN"]}}]);
        let left = asked(remove).unwrap();
        assert_eq!(left.len(), 13);
        assert!(!left.contains(&"CAP_KILL".to_owned()));
        let none = json!([{"name": CAPABILITIES_RETAIN_SET, "value": {"set": []}}]);
        assert_eq!(asked(none).unwrap(), [""; 0]);
    }

    #[test]
    fn errors_name_the_isolator_and_what_was_meant() {
        let unknown = |name: &str| {
            asked(json!([{"name": CAPABILITIES_RETAIN_SET, "value": {"set": [name]}}]))
        };
        assert_eq!(
            unknown("CAP_NET_ADMON").unwrap_err(),
            "os/linux/capabilities-retain-set: set[0]: \"CAP_NET_ADMON\" is no capability of this kernel; \
             is CAP_NET_ADMIN or CAP_NET_RAW meant?"
        );
        assert!(
            unknown("sys_admin")
                .unwrap_err()
                .contains("is CAP_SYS_ADMIN ")
        );
        assert!(
            unknown("x")
                .unwrap_err()
                .ends_with("is no capability of this kernel")
        );
        let set = json!({"set": ["CAP_KILL"]});
        let both = json!([{"name": CAPABILITIES_RETAIN_SET, "value": set}, {"name": CAPABILITIES_REMOVE_SET, "value": set}]);
        assert_eq!(
            asked(both).unwrap_err(),
            "os/linux/capabilities-retain-set: excludes os/linux/capabilities-remove-set"
        );
    }

    #[test]
    fn the_kernels_last_capability_bounds_the_names() {
        let isolators = json!([{"name": CAPABILITIES_RETAIN_SET, "value": {"set": ["CAP_BPF"]}}]);
        let isolators: Vec<Isolator> = serde_json::from_value(isolators).unwrap();
        assert!(bounding(&isolators, 37).is_err());
        assert!(bounding(&isolators, 39).is_ok());
        assert!(!all(37).contains(&Capability::CAP_BPF));
    }
}
