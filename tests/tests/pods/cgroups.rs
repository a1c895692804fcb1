//! Apps see control groups and write to none: not the pod's, another app's, nor their own.

use anyhow::{Result, ensure};
use rustix::io::Errno;
use tests::fixture::{App, with};
use tests::probe::Outcome;

tests::cases!("cgroups": ; both ways: apps_write_to_none; with users: apps_write_to_none);

/// Control groups, from the top of what an app sees.
const GROUPS: [&str; 4] = [
    "",
    "/system.slice",
    "/system.slice/app-a.service",
    "/system.slice/app-b.service",
];

/// Files of theirs that limit memory, in either version: hosts have one of them.
const OF_MEMORY: [&str; 2] = ["/memory@/memory.limit_in_bytes", "@/memory.max"];

/// Others that limit, move processes or allow devices.
const OTHERS: [&str; 7] = [
    "@/cgroup.procs",
    "@/cgroup.subtree_control",
    "@/pids.max",
    "/memory@/cgroup.procs",
    "/pids@/pids.max",
    "/devices@/devices.allow",
    "/unified@/cgroup.procs",
];

fn apps_write_to_none() -> Result<()> {
    with(|fixture| {
        let path = |file: &str, group| format!("/sys/fs/cgroup{}", file.replace('@', group));
        let files = OF_MEMORY.iter().chain(&OTHERS);
        let paths = files.flat_map(|file| GROUPS.map(|group| path(file, group)));
        let paths: Vec<String> = paths.collect();
        let looks = paths
            .iter()
            .flat_map(|path| ["--stat", path, "--write", path]);
        let a = "do wait-file /out/up + see --out /out/a.json".split(' ');
        let a = App::probe("a", a.chain(looks)).option("--memory=64M");
        // It is there until the other has looked.
        let b = "do write /out/up x + wait-file /out/a.json".split(' ');
        let b = App::probe("b", b).option("--memory=64M");
        fixture.pod([a, b]).run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        for group in GROUPS {
            let limits = OF_MEMORY.map(|file| seen.stat(&path(file, group)).is_ok());
            ensure!(
                limits != [false; 2],
                "no limit in {group}: {:?}",
                seen.looks
            );
        }
        for path in paths.iter().filter(|path| seen.stat(path).is_ok()) {
            let outcome = seen.look("write", path)?;
            // In a user namespace some are not the app's to write in the first place.
            let refused =
                [Errno::ROFS, Errno::ACCESS].map(|error| Outcome::Error(error.raw_os_error()));
            ensure!(refused.contains(outcome), "write {path}: {outcome:?}");
        }
        Ok(())
    })
}
