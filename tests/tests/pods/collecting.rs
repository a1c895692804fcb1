//! gc of pods whose directory is not as their run has left it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use tests::fixture::{App, Fixture, with};

tests::cases!("collecting":
    after_a_reboot,
    without_the_stage1_of_the_store,
    links_lead_nowhere,
);

/// A pod with overlays that has ended; what a reboot takes away is gone: mounts and cgroups.
fn rebooted(fixture: &Fixture) -> Result<(String, PathBuf)> {
    let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
    fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
    let dir = fixture.pod_dir(&uuid)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<_> = points
        .filter(|path| Path::new(path).starts_with(&dir))
        .collect();
    ensure!(!below.is_empty(), "no overlay is mounted");
    for path in below.into_iter().rev() {
        unmount(path, UnmountFlags::empty()).with_context(|| format!("unmount {path}"))?;
    }
    let cgroup = fs::read_to_string(dir.join("subcgroup"))?;
    // The hierarchies of v1, and the only one of a unified host.
    let all = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(all)?.flatten().map(|found| found.path());
    for hierarchy in hierarchies.chain([all.to_owned()]) {
        remove_cgroup(&hierarchy.join(cgroup.trim_start_matches('/')));
    }
    Ok((uuid, dir))
}

/// A cgroup and those below it, where there is one.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

fn after_a_reboot() -> Result<()> {
    with(|fixture| {
        rebooted(fixture)?;
        let finished = fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        ensure!(!finished.stderr.contains("not run"), "{finished}");
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
        Ok(())
    })
}

fn without_the_stage1_of_the_store() -> Result<()> {
    with(|fixture| {
        let (_, dir) = rebooted(fixture)?;
        fs::write(dir.join("stage1TreeStoreID"), "deps-sha512-0")?;
        let finished = fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        ensure!(
            finished.stderr.contains("gc entrypoint is not run"),
            "{finished}"
        );
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        Ok(())
    })
}

/// Every folder and file that gc goes through is replaced by a link to one outside that looks the same; a program there
/// would tell that it was run.
fn links_lead_nowhere() -> Result<()> {
    with(|fixture| {
        for place in [
            "stage1",
            "stage1/rootfs",
            "overlay",
            "appsinfo",
            "subcgroup",
            "ppid",
            "stage1TreeStoreID",
        ] {
            let (_, dir) = rebooted(fixture)?;
            let outside = fixture.path("outside");
            fs::create_dir(&outside)?;
            let there = outside.join("there");
            fs::rename(dir.join(place), &there)?;
            if place == "stage1/rootfs" {
                fs::write(there.join("gc"), "#!/bin/sh\necho >\"${0%/*}/ran\"\n")?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(there.join("gc"), mode)?;
            }
            symlink(&there, dir.join(place))?;
            let before = listed(&outside)?;
            let finished = fixture.stage0(["gc", "--grace-period=0s"])?;
            let finished = finished.expect(0).with_context(|| place)?;
            assert_eq!(listed(&outside)?, before, "{place}: {finished}");
            ensure!(fixture.pods().is_empty(), "{place}: {finished}");
            fs::remove_dir_all(&outside)?;
        }
        Ok(())
    })
}

/// All paths below a directory.
fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                next.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
