//! Limits on trees of plain files.

use super::*;
use crate::status::Outcome;

fn cgroup(dir: &Path, controllers: &[&str]) -> Hierarchies {
    Hierarchies(vec![Hierarchy {
        mount_point: dir.to_owned(),
        mounted: "/".into(),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        own: "/".into(),
    }])
}

fn asked() -> Resources {
    Resources {
        cpu_limit: Some(7),
        cpu_shares: Some(1024),
        memory_limit: Some(8192),
        memory_request: Some(4096),
        pids_max: Some(5),
        block_bandwidth: Some(1_000_000),
        block_iops: Some(10),
        ..Resources::default()
    }
}

fn outcomes(files: &[(&str, &str)], controllers: &[&str]) -> Vec<(String, Outcome)> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let hierarchies = cgroup(dir.path(), controllers);
    let limits = Limits::own(&hierarchies, Some("8:0"));
    let reports = limits.reports(&asked());
    reports.into_iter().map(|r| (r.name, r.outcome)).collect()
}

fn named(outcomes: &[Outcome; 6]) -> Vec<(String, Outcome)> {
    let names = [
        CPU,
        CPU_SHARES,
        MEMORY,
        PIDS_MAX,
        BLOCK_BANDWIDTH,
        BLOCK_IOPS,
    ];
    names
        .iter()
        .map(|n| (*n).to_owned())
        .zip(outcomes.iter().copied())
        .collect()
}

#[test]
fn unified() {
    use Outcome::{Enforced, Ignored, Modified};
    let files = [
        ("cpu.max", "1000 142858\n"),
        ("cpu.weight", "100\n"),
        ("memory.max", "8192\n"),
        ("memory.low", "4096\n"),
        ("pids.max", "5\n"),
        (
            "io.max",
            "8:16 rbps=1 wbps=1\n8:0 rbps=1000000 wbps=1000000 riops=10 wiops=9\n",
        ),
    ];
    let found = outcomes(&files, &[]);
    assert_eq!(
        found,
        named(&[Enforced, Enforced, Enforced, Enforced, Enforced, Modified])
    );
    let files = [
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "40\n"),
        ("memory.max", "max\n"),
        ("memory.low", "4096\n"),
        ("io.max", "\n"),
    ];
    let found = outcomes(&files, &[]);
    assert_eq!(
        found,
        named(&[Ignored, Modified, Modified, Ignored, Ignored, Ignored])
    );
}

#[test]
fn legacy() {
    use Outcome::{Enforced, Ignored, Modified};
    let all = ["cpu", "memory", "pids", "blkio"];
    let files = [
        ("cpu.cfs_quota_us", "1000\n"),
        ("cpu.cfs_period_us", "142858\n"),
        ("cpu.shares", "1024\n"),
        ("memory.limit_in_bytes", "8192\n"),
        ("pids.max", "5\n"),
        ("blkio.throttle.read_bps_device", "8:0 1000000\n"),
        ("blkio.throttle.write_bps_device", "8:0 1000000\n"),
        ("blkio.throttle.read_iops_device", "8:0 10\n"),
        ("blkio.throttle.write_iops_device", ""),
    ];
    let found = outcomes(&files, &all);
    assert_eq!(
        found,
        named(&[Enforced, Enforced, Modified, Enforced, Enforced, Ignored])
    );
    let files = [
        ("cpu.cfs_quota_us", "-1\n"),
        ("cpu.cfs_period_us", "100000\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("pids.max", "max\n"),
    ];
    let found = outcomes(&files, &all);
    assert_eq!(found, named(&[Ignored; 6]));
}

#[test]
fn set_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "cpu.max",
        "cpu.weight",
        "memory.max",
        "memory.low",
        "pids.max",
        "io.max",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let hierarchies = cgroup(dir.path(), &[]);
    let limits = Limits::of_pod(&hierarchies, Path::new("/"), Some("8:0"));
    let resources = Resources {
        // A plain file keeps the last line only, unlike the kernel's.
        block_iops: None,
        ..asked()
    };
    limits.set(&resources);
    let reports = limits.reports(&resources);
    assert!(
        reports.iter().all(|r| r.outcome == Outcome::Enforced),
        "{reports:?}"
    );
    let tiny = Resources {
        cpu_limit: Some(1),
        ..Resources::default()
    };
    limits.set(&tiny);
    assert_eq!(
        fs::read_to_string(dir.path().join("cpu.max")).unwrap(),
        "1000 1000000"
    );
}
