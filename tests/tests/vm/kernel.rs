//! Kernels that lack what pods can do without: overlays, a memory controller, `cgroup.kill`, BPF programs for devices; and
//! one that makes no user namespaces, which is refused where one is asked for.

use anyhow::{Result, ensure};
use tests::vm::{Config, Guest, Report, Status};

use super::bench::{Bench, RUN};

/// Runs a pod of an app that has a limit of memory.
fn limited(options: &str, steps: &str) -> String {
    let options = format!("stage0 run {options} ");
    let run = RUN.replace("stage0 run ", &options);
    run.replace(" -- do", &format!(" --memory=64M -- do {steps}"))
}

/// Takes a module away that the kernel has not loaded yet.
const FORGET: &str = "
find /lib/modules -name 'overlay.ko*' -exec rm {} +
! grep -q overlay /proc/filesystems
";

/// Kills a pod's supervisor, and then what it has left behind.
const KILL: &str = "
kill -9 $(cat /var/lib/stage0/pods/run/*/ppid)
exec /payload/stage0 stop --force $(ls /var/lib/stage0/pods/run)
";

/// Runs a pod in a user namespace where the host allows none.
const USERS: &str = "
echo 0 >/proc/sys/user/max_user_namespaces
exec /payload/stage0 run --private-users example.com/app -- exit 0
";

/// Steps on every kernel without a memory controller.
fn without_memory(config: Config) -> Config {
    config
        .step("controllers", "cat /proc/cgroups")
        .step("run", &limited("", "print hello + exit 7"))
        .step("strict", &limited("--strict-isolators", "exit 0"))
        .step("gc", "/payload/stage0 gc --grace-period=0s")
        .step("cgroups-left", "find /sys/fs/cgroup -name *rkt-*")
        .step("mounts-left", "grep stage0 /proc/mounts")
}

fn expect_without_memory(report: &Report) -> Result<()> {
    let output = report.expect("run", &Status::Exited(7))?;
    let why = "isolator resource/memory is ignored: the host has no cgroup controller memory";
    for text in [why, "hello"] {
        ensure!(output.contains(text), "no {text:?} in {output}");
    }
    let output = report.expect("strict", &Status::Exited(254))?;
    ensure!(output.contains(why), "{output}");
    report.expect("gc", &Status::Exited(0))?;
    assert_eq!(report.expect("cgroups-left", &Status::Exited(0))?, "");
    report.expect("mounts-left", &Status::Exited(1)).map(drop)
}

pub(crate) fn pods_do_without_overlays_and_a_whole_kill(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        let config = config
            .kernel_word("cgroup_disable=memory")
            .text("forget", FORGET)
            .text("kill", KILL)
            .step("overlay-gone", "sh /payload/forget")
            .step("no-kill", "find /sys/fs/cgroup -name cgroup.kill")
            .start("killed", &format!("{RUN} write /shared/up x + hang"))
            .step("up", "/payload/probe wait-file /shared/up")
            .step("kill", "sh /payload/kill")
            .join("killed")
            .text("processes", "grep -x probe /proc/[0-9]*/comm")
            .step("processes", "sh /payload/processes");
        without_memory(config)
    })?;
    report.expect("overlay-gone", &Status::Exited(0))?;
    assert_eq!(report.expect("no-kill", &Status::Exited(0))?, "");
    report.expect("kill", &Status::Exited(0))?;
    report.expect("killed", &Status::Killed(9))?;
    assert_eq!(report.output("processes"), "");
    report.expect("processes", &Status::Exited(1))?;
    let copying = "copying root file systems: the kernel has no overlay file system";
    ensure!(
        report.output("run").contains(copying),
        "{}",
        report.output("run")
    );
    expect_without_memory(&report)
}

pub(crate) fn pods_do_without_programs_for_devices(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let run = format!("{RUN} mknod /tmp/mem c 1 1 + print hello");
    let report = bench.finish(|config| {
        let config = config
            .kernel_word("cgroup_disable=memory")
            .text("users", USERS)
            .step("users", "sh /payload/users")
            .step("prepared", "/payload/stage0 list --no-legend")
            .step("with", &run)
            .step("without", &format!("/payload/probe without bpf {run}"));
        without_memory(config)
    })?;
    let output = report.expect("users", &Status::Exited(254))?;
    let line = "stage0: user namespaces are switched off on this host: /proc/sys/user/max_user_namespaces is 0";
    ensure!(output.contains(line), "{output}");
    assert_eq!(report.expect("prepared", &Status::Exited(0))?, "");
    let warning = "the devices of apps are not restricted: the kernel has no BPF programs for it";
    let output = report.expect("with", &Status::Exited(0))?;
    ensure!(!output.contains(warning), "{output}");
    for text in [warning, "hello"] {
        report.expect_text("without", text)?;
    }
    expect_without_memory(&report)
}
