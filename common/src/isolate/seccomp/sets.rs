//! Named sets of system calls. The lists are data (`common/data/seccomp.json`), with their sources and date; what a name
//! means is said here.
//!
//! The names of 2018 stand in images that are run today, by programs whose C library makes calls that did not exist
//! then. So a whitelist is the old one and what today's default allows, and a blacklist is the old one and every call
//! that today's default does not allow to an app with the usual capabilities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use caps::{Capability, CapsHashSet};
use serde::Deserialize;

use crate::isolate::capability;

/// The data file.
#[derive(Debug, Deserialize)]
struct Data {
    default: Default,
    pod: Pod,
    docker2018: Docker2018,
    systemd: Systemd,
}

/// The filter of an app that asks for none.
#[derive(Debug, Deserialize)]
pub(super) struct Default {
    /// Allowed to everybody.
    pub(super) allow: Vec<String>,
    /// Known and refused with EPERM; a call that is in no list is answered as if the kernel did not have it, so that
    /// programs fall back.
    pub(super) refuse: Vec<String>,
    /// Allowed with a capability, else refused.
    #[serde(rename = "forCapability")]
    pub(super) for_capability: BTreeMap<String, Vec<String>>,
}

/// Calls that the default filter allows, or not, by their arguments.
const BY_ARGUMENTS: [&str; 2] = ["personality", "socket"];

impl Default {
    /// What an app with the usual capabilities is not allowed.
    fn not_allowed(&self) -> Vec<String> {
        let usual = capability::DEFAULT.map(|capability| capability.to_string());
        let granted = usual
            .iter()
            .filter_map(|capability| self.for_capability.get(capability))
            .flatten();
        let allowed: BTreeSet<_> = self.allow.iter().chain(granted).collect();
        known()
            .filter(|name| !allowed.contains(name) && !BY_ARGUMENTS.contains(&name.as_str()))
            .collect()
    }
}

/// The filter of the pod as a whole, its systemd included. It has `bpf(2)`, which
/// nspawn's has not: the rules for devices are BPF programs on unified hosts, and systemd loads them. What apps may call is
/// for their own filters, and their capabilities, to say.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    allow: Vec<String>,
    #[serde(rename = "forCapability")]
    for_capability: BTreeMap<String, Vec<String>>,
}

impl Pod {
    /// The calls that a pod with these capabilities may make.
    pub(super) fn allowed(&self, capabilities: &CapsHashSet) -> BTreeSet<String> {
        let has = |name: &str| {
            name.parse()
                .is_ok_and(|capability: Capability| capabilities.contains(&capability))
        };
        let granted = self
            .for_capability
            .iter()
            .filter(|(capability, _)| has(capability));
        let names = self
            .allow
            .iter()
            .chain(granted.flat_map(|(_, names)| names));
        let calls = names.flat_map(|name| match name.strip_prefix('@') {
            Some(name) => group(name).unwrap_or_default(),
            None => BTreeSet::from([name.clone()]),
        });
        calls.collect()
    }
}

#[derive(Debug, Deserialize)]
struct Docker2018 {
    whitelist: Vec<String>,
    blacklist: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Systemd {
    groups: BTreeMap<String, Vec<String>>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../data/seccomp.json"))
        .expect("the data file is right: a test reads it")
});

/// The default filter.
pub(super) fn default() -> &'static Default {
    &DATA.default
}

/// The filter of pods.
pub(super) fn pod() -> &'static Pod {
    &DATA.pod
}

/// The system calls of a named set; `None` when there is no such set.
pub(super) fn named(name: &str) -> Option<BTreeSet<String>> {
    let join = |old: &[String], new: &[String]| Some(old.iter().chain(new).cloned().collect());
    match name {
        "@appc.io/empty" => Some(BTreeSet::new()),
        "@docker/default-whitelist" | "@rkt/default-whitelist" => {
            join(&DATA.docker2018.whitelist, &DATA.default.allow)
        }
        "@docker/default-blacklist" | "@rkt/default-blacklist" => {
            join(&DATA.docker2018.blacklist, &DATA.default.not_allowed())
        }
        _ => group(name.strip_prefix("@systemd/")?),
    }
}

/// Every system call that a list names.
pub(super) fn known() -> impl Iterator<Item = String> {
    let data = &*DATA;
    let groups = data
        .systemd
        .groups
        .values()
        .flatten()
        .filter(|name| !name.starts_with('@'));
    let all: BTreeSet<_> = groups
        .chain(&data.default.allow)
        .chain(&data.default.refuse)
        .cloned()
        .collect();
    all.into_iter()
}

/// A group of systemd's, by its name without `@` or with it, with the groups in it resolved.
fn group(name: &str) -> Option<BTreeSet<String>> {
    let members = DATA
        .systemd
        .groups
        .get(&format!("@{}", name.trim_start_matches('@')))?;
    let mut calls = BTreeSet::new();
    for member in members {
        match member.strip_prefix('@') {
            Some(inner) => calls.extend(group(inner)?),
            None => {
                calls.insert(member.clone());
            }
        }
    }
    Some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_whole() {
        assert!(default().allow.len() > 300);
        for group_name in DATA.systemd.groups.keys() {
            assert!(
                group(group_name).is_some_and(|calls| !calls.is_empty()),
                "{group_name}"
            );
        }
        assert!(named("@systemd/nope").is_none());
        let names = DATA
            .pod
            .allow
            .iter()
            .chain(DATA.pod.for_capability.values().flatten());
        for name in names.filter_map(|name| name.strip_prefix('@')) {
            assert!(group(name).is_some(), "{name}");
        }
        let of_pod = pod().allowed(&CapsHashSet::from([Capability::CAP_SYS_TIME]));
        assert!(
            of_pod.contains("clock_settime")
                && of_pod.contains("mount")
                && !of_pod.contains("kexec_load")
        );
    }

    /// What programs of today call without a second way: glibc 2.36 and later, Go 1.22, Java 21, Node 20, Rust.
    #[test]
    fn the_default_lets_programs_of_today_run() {
        for call in [
            "clone3",
            "faccessat2",
            "openat2",
            "statx",
            "rseq",
            "close_range",
            "getrandom",
            "membarrier",
            "epoll_pwait2",
            "pidfd_open",
            "futex",
            "set_robust_list",
            "copy_file_range",
        ] {
            assert!(default().allow.iter().any(|name| name == call), "{call}");
        }
    }
}
