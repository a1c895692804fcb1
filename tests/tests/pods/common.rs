//! What several subjects need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;
use serde_json::Value;
use tests::fixture::{App, Fixture};
use tests::harness::Skip;
use tests::leftovers::Marks;
use tests::process::{BOUND, Running};

/// An app that is ready when `/out/ready` is there and ends well when told to stop.
pub(crate) fn server() -> App {
    App::probe(
        "server",
        [
            "do",
            "write",
            "/out/ready",
            "",
            "+",
            "until-term",
            "+",
            "write",
            "/out/stopped",
            "",
        ],
    )
}

pub(crate) fn start_server(fixture: &Fixture) -> Result<(String, Running)> {
    let started = fixture.pod([server()]).start_prepared(&[])?;
    tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
    Ok(started)
}

pub(crate) fn status(fixture: &Fixture, uuid: &str) -> Result<BTreeMap<String, String>> {
    let text = fixture.text(["status", uuid])?;
    text.lines()
        .map(|line| {
            line.split_once('=')
                .map(|(name, value)| (name.into(), value.into()))
                .context("a line without =")
        })
        .collect()
}

/// How many pods or apps a test of many has: so many, or as `STAGE1_MANY` says.
pub(crate) fn many(usual: u64) -> u64 {
    number("STAGE1_MANY").unwrap_or(usual)
}

/// How far apart the points are that a test of all points of a change takes: 1, or as `STAGE1_STRIDE` says.
pub(crate) fn stride() -> usize {
    let stride = number("STAGE1_STRIDE").unwrap_or(1).max(1);
    usize::try_from(stride).unwrap_or(usize::MAX)
}

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A process of a running pod, by the name that the kernel has for its program.
pub(crate) fn process_of_pod(uuid: &str, name: &str) -> Result<Pid> {
    let pod = Marks::new([uuid], &[]);
    let processes = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let file = |name| std::fs::read_to_string(entry.path().join(name)).ok();
        (pod.are_in(&file("cgroup")?) && file("comm")?.trim() == name).then_some(pid)
    });
    let pid = processes.last().and_then(Pid::from_raw);
    pid.with_context(|| format!("no process {name} of the pod {uuid}"))
}

/// A UUID for the directory of a pod that a test makes itself. What is left of a pod is found, and killed, by its UUID: no
/// two tests may have one in common, nor two runs of a test at the same time.
pub(crate) fn new_uuid() -> Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a UUID")?;
    Ok(uuid.trim().to_owned())
}

/// Where the whole story of an app is written, in a pod that runs or has run without overlay.
pub(crate) fn status_file(fixture: &Fixture, uuid: &str, app: &str) -> Result<PathBuf> {
    let dir = fixture.pod_dir(uuid)?.join("stage1/rootfs/rkt/status");
    Ok(dir.join(format!("{app}.json")))
}

/// The whole story of an app.
pub(crate) fn app_status(fixture: &Fixture, uuid: &str, app: &str) -> Result<Value> {
    let file = status_file(fixture, uuid, app)?;
    let json = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("read {}", file.display()))
}

/// Whether the kernel can mount the test's directory with other owners: not a tmpfs before Linux 6.3.
pub(crate) fn maps_owners(fixture: &Fixture) -> Result<bool> {
    const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let [Some(Ok(major)), Some(Ok(minor))] = [numbers.next(), numbers.next()] else {
        bail!("kernel release {release}");
    };
    let tmpfs = rustix::fs::statfs(fixture.path(""))?.f_type == TMPFS_MAGIC;
    Ok(!tmpfs || (major, minor) >= (6, 3))
}

/// Skips a test that mounts the test's directory with other owners where the kernel can't.
pub(crate) fn need_mapped_owners(fixture: &Fixture) -> Result<()> {
    ensure!(
        maps_owners(fixture)?,
        Skip("this kernel maps no owners of a tmpfs".into())
    );
    Ok(())
}

/// Whether the kernel of this host uses AppArmor. Where nobody mounts securityfs, no profile is seen.
pub(crate) fn has_apparmor() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.trim() == "Y")
}
