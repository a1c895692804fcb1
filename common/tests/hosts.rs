//! Reads the hosts of `golden/hosts` and compares the facts; see its README.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use common::facts::HostFacts;
use common::pod::machine_name;

const UUID: &str = "0b29556f-0fe4-4254-a970-50f0b77362b4";

fn describe(facts: &HostFacts) -> String {
    let mut out = String::new();
    let known = [
        ("systemd", facts.systemd),
        ("system bus", facts.system_bus),
        ("machined", facts.machined),
        ("journal", facts.journal),
        ("os-release", facts.os_release),
        ("times in the kernel's log", facts.printk_time),
    ];
    for (fact, known) in known {
        writeln!(out, "{fact}: {}", if known { "yes" } else { "no" }).unwrap();
    }
    writeln!(out, "last capability: {}", facts.last_capability).unwrap();
    let pod = facts.pod_cgroup(&machine_name(UUID));
    for hierarchy in &facts.cgroups.0 {
        let controllers = if hierarchy.is_unified() {
            "unified".into()
        } else {
            hierarchy.controllers.join(",")
        };
        writeln!(out, "hierarchy {controllers}").unwrap();
        writeln!(out, "    own cgroup: {}", hierarchy.own.display()).unwrap();
        writeln!(
            out,
            "    its directory: {}",
            hierarchy.dir(&hierarchy.own).display()
        )
        .unwrap();
        writeln!(out, "    the pod's: {}", hierarchy.dir(&pod.path).display()).unwrap();
    }
    let maker = if pod.scope { "systemd" } else { "init" };
    writeln!(out, "pod cgroup: {}, made by {maker}", pod.path.display()).unwrap();
    out
}

#[test]
fn facts_are_found() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hosts");
    let mut hosts: Vec<_> = fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    hosts.retain(|path| path.is_dir());
    hosts.sort();
    let mut wrong = Vec::new();
    for host in hosts {
        let found = match HostFacts::read(&host.join("root")) {
            Ok(facts) => describe(&facts),
            Err(error) => format!("error: {error:#}\n").replace(host.to_str().unwrap(), "HOST"),
        };
        let expected_path = host.join("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected_path, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}found:\n{found}",
                host.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
