//! Pods on hosts with systemd and without it, and what becomes of a guest that fails.

use std::time::Duration;

use anyhow::Result;
use tests::vm::{Config, Guest, Report, Status, TestVm};

use super::bench::{Bench, RUN, config};

pub(crate) fn a_pod_runs_on_a_busybox_host(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        config
            .step("no-systemd", "test ! -e /run/systemd/system")
            .step("run", &format!("{RUN} print hello + exit 7"))
            .step("list", "/payload/stage0 list")
            .step("gc", "/payload/stage0 gc --grace-period=0s")
            .step("cgroups-left", "find /sys/fs/cgroup -mindepth 1 -type d")
            .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    report.expect("no-systemd", &Status::Exited(0))?;
    let output = report.expect("run", &Status::Exited(7))?;
    assert!(output.contains("hello"), "{output}");
    report.expect_text("list", "exited")?;
    report.expect("gc", &Status::Exited(0))?;
    assert_eq!(report.expect("cgroups-left", &Status::Exited(0))?, "");
    // grep's way to say that there is none.
    report.expect("mounts-left", &Status::Exited(1))?;
    Ok(())
}

pub(crate) fn pods_run_on_a_systemd_host(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        let config = config.step("systemd", "systemctl is-system-running --wait");
        killed(added_device(from_service(from_shell(config))))
            .step("users", &format!("{SERVICE} {OF_A_USER} {RUN} exit 3"))
            .step("undelegated", &format!("{SERVICE} -- {} exit 4", strict()))
            .step("gc", "/payload/stage0 gc --grace-period=0s")
            .step("machines-left", "machinectl list --no-legend")
            .step("cgroups-left", "find /sys/fs/cgroup -name *rkt*")
            .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    report.expect_text("systemd", "running")?;
    expect_from_shell(&report)?;
    expect_from_service(&report)?;
    expect_added_device(&report)?;
    report.expect("users", &Status::Exited(3))?;
    report.expect("undelegated", &Status::Exited(4))?;
    report.expect("killed", &Status::Exited(0))?;
    report.expect_text("killed-known", "rkt-")?;
    report.expect("killed-rm", &Status::Exited(0))?;
    report.expect("gc", &Status::Exited(0))?;
    for none in ["machines-left", "cgroups-left"] {
        assert_eq!(report.expect(none, &Status::Exited(0))?, "", "{none}");
    }
    report.expect("mounts-left", &Status::Exited(1))?;
    Ok(())
}

/// A service that has nothing of the project's unit, `Delegate=` neither.
const SERVICE: &str = "systemd-run --service-type=exec --wait --pipe --quiet";
/// As services of a user's own systemd are: nspawn registers none of these as a machine.
const OF_A_USER: &str = "--slice=user-0.slice --";

/// A pod that runs only with its app's limit in force.
fn strict() -> String {
    let run = RUN.replace("stage0 run ", "stage0 run --strict-isolators ");
    run.replace(" -- do", " --memory=64M -- do")
}

/// As from a shell: in the scope of a session, and registered with machined.
fn from_shell(config: Config) -> Config {
    config
        .start(
            "shell",
            &format!("systemd-run --scope --quiet -- {}", waiting("shell", 7)),
        )
        .step("shell-up", "/payload/probe wait-file /shared/shell-up")
        .step("shell-machine", "machinectl list --no-legend")
        .step("shell-cgroup", "sh /payload/subcgroup")
        .step("shell-go", "touch /shared/shell-go")
        .join("shell")
        .step("shell-gc", "/payload/stage0 gc --grace-period=0s")
}

fn expect_from_shell(report: &Report) -> Result<()> {
    let output = report.expect("shell", &Status::Exited(7))?;
    assert!(output.contains("ends"), "{output}");
    report.expect_text("shell-machine", "rkt-")?;
    // machined has put it there.
    report.expect_text("shell-cgroup", "/sys/fs/cgroup/machine.slice/")?;
    report.expect_text("shell-cgroup", "probe")?;
    report.expect("shell-gc", &Status::Exited(0)).map(drop)
}

/// A device that comes to a pod later: the scope that machined has made has a policy for devices.
const DEVICE: &str = r#"
mkdir -p /run/device
systemd-run --scope --quiet -- /payload/stage0 app sandbox --uuid-file-save=/run/device/uuid \
    --volume=shared,kind=host,source=/shared &
/payload/probe wait-file /run/device/uuid || exit
uuid=$(cat /run/device/uuid)
/payload/stage0 app add "$uuid" example.com/app --name=a --mount=volume=shared,target=/shared \
    --mnt-volume=name=log,kind=host,source=/dev/kmsg,target=/dev/log-of-the-kernel -- \
    do see --out /shared/device.json --write /dev/log-of-the-kernel + write /shared/device x || exit
/payload/stage0 app start "$uuid" --app=a || exit
/payload/probe wait-file /shared/device || exit
grep -o '"write /dev/log-of-the-kernel":[^,]*' /shared/device.json
cat "/var/lib/stage0/pods/run/$uuid/subcgroup"
/payload/stage0 stop "$uuid"
"#;

fn added_device(config: Config) -> Config {
    config
        .text("device", DEVICE)
        .step("device", "sh /payload/device")
}

fn expect_added_device(report: &Report) -> Result<()> {
    report.expect("device", &Status::Exited(0))?;
    report.expect_text("device", ".scope")?;
    report.expect_text("device", "Writable")
}

pub(crate) fn devices_can_be_added(guest: Guest) -> Result<()> {
    let report = Bench::new(guest)?.finish(added_device)?;
    expect_added_device(&report)
}

/// A pod in the service of the guest's agent, which lives on, and whose nspawn is killed: machined goes on to know it.
const KILLED: &str = r#"
/payload/stage0 run --volume=shared,kind=host,source=/shared --mount=volume=shared,target=/shared example.com/app -- \
    do write /shared/killed x + hang &
/payload/probe wait-file /shared/killed || exit
for pod in /var/lib/stage0/pods/run/*; do
    /payload/stage0 status "${pod##*/}" | grep -q state=running || continue
    kill -KILL "$(cat "$pod/ppid")"
    /payload/stage0 stop --force "${pod##*/}"
    echo "${pod##*/}" >/shared/killed-uuid
done
"#;

fn killed(config: Config) -> Config {
    config
        .text("killed", KILLED)
        .text(
            "killed-rm",
            "/payload/stage0 rm \"$(cat /shared/killed-uuid)\"",
        )
        .step("killed", "sh /payload/killed")
        .step("killed-known", "machinectl list --no-legend")
        .step("killed-rm", "sh /payload/killed-rm")
}

/// The unit that a pod is started by. Its app ends when it is told to.
fn unit() -> String {
    format!(
        "[Service]\nType=simple\nDelegate=yes\nExecStart={}\n",
        waiting("service", 5)
    )
}

fn from_service(config: Config) -> Config {
    config
        .text("pod.service", &unit())
        .step(
            "unit",
            "cp /payload/pod.service /run/systemd/system/pod.service",
        )
        .step("service-start", "systemctl start pod.service")
        .step("service-up", "/payload/probe wait-file /shared/service-up")
        .step("service-active", "systemctl is-active pod.service")
        .step("service-machine", "machinectl list --no-legend")
        .step("service-cgroup", "sh /payload/subcgroup")
        .start("service-end", "systemctl start --wait pod.service")
        .step("service-go", "touch /shared/service-go")
        .join("service-end")
        .step(
            "service-status",
            "systemctl show --property=ExecMainStatus pod.service",
        )
        .step("service-journal", "journalctl --unit=pod.service")
}

fn expect_from_service(report: &Report) -> Result<()> {
    report.expect("service-start", &Status::Exited(0))?;
    report.expect_text("service-active", "active")?;
    report.expect_text("service-machine", "rkt-")?;
    // Delegate=yes: the pod stays below its unit.
    report.expect_text("service-cgroup", "/sys/fs/cgroup/system.slice/pod.service/")?;
    report.expect_text("service-cgroup", "probe")?;
    report.expect_text("service-status", "ExecMainStatus=5")?;
    report.expect_text("service-journal", "ends")
}

/// A pod whose app says that it is up, waits until it may go on, and ends.
fn waiting(name: &str, status: i32) -> String {
    format!(
        "{RUN} write /shared/{name}-up yes + wait-file /shared/{name}-go + print ends + exit {status}"
    )
}

pub(crate) fn a_kernel_panic_is_a_failure(guest: Guest) -> Result<()> {
    let config = config(guest)?;
    let config = config
        .text("panic.sh", "echo c >/proc/sysrq-trigger")
        .step("before", "echo well")
        .step("panic", "sh /payload/panic.sh");
    let error = TestVm::new(config)?.finish().expect_err("it panicked");
    let error = format!("{error:#}");
    assert!(error.contains("the guest's kernel panicked"), "{error}");
    assert!(error.contains("RESULT name=before status=0"), "{error}");
    Ok(())
}

pub(crate) fn a_guest_that_does_not_end_is_a_failure(guest: Guest) -> Result<()> {
    let config = config(guest)?;
    let config = config.limit(Duration::from_millis(500));
    let error = TestVm::new(config)?.finish().expect_err("it was stopped");
    let error = format!("{error:#}");
    assert!(error.contains("has not ended within"), "{error}");
    Ok(())
}
