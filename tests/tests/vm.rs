//! Pods on hosts of other kinds than this machine, under QEMU. One boot serves all that is tested on one guest.

#[path = "vm/kernel.rs"]
mod kernel;
#[path = "vm/limits.rs"]
mod limits;
#[path = "vm/machines.rs"]
mod machines;
#[path = "vm/protection.rs"]
mod protection;
#[path = "vm/security.rs"]
mod security;
#[path = "vm/services.rs"]
mod services;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::harness::build_dir;
use tests::image::{Image, Packing, dir, file};
use tests::process;
use tests::vm::{Cgroups, Config, Guest, Init, Report, Status, TestVm, missing};

const AGENT: &str = env!("CARGO_BIN_EXE_guest-agent");
const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const BUSYBOX: Guest = Guest::new(Init::Busybox, Cgroups::Unified);
const SYSTEMD: Guest = Guest::new(Init::Systemd, Cgroups::Unified);

/// How the pods of these tests are run, up to what the app is told to do.
const RUN: &str = "/payload/stage0 run --volume=shared,kind=host,source=/shared \
    --mount=volume=shared,target=/shared example.com/app -- do";

/// Shows the pod's control group as the run entrypoint has recorded it, and the names of the processes that are in it.
const SUBCGROUP: &str = r#"
cd "/sys/fs/cgroup/$(cat /var/lib/stage0/pods/run/*/subcgroup)" || exit
pwd
cat $(find . -name cgroup.procs) | while read -r pid; do cat "/proc/$pid/comm"; done
"#;

#[test]
fn a_pod_runs_on_a_busybox_host() -> Result<()> {
    let Some(bench) = Bench::new(BUSYBOX)? else {
        return Ok(());
    };
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

#[test]
fn pods_run_on_a_systemd_host() -> Result<()> {
    let Some(bench) = Bench::new(SYSTEMD)? else {
        return Ok(());
    };
    let report = bench.finish(|config| {
        let config = config.step("systemd", "systemctl is-system-running --wait");
        killed(added_device(from_service(from_shell(config))))
            .step("gc", "/payload/stage0 gc --grace-period=0s")
            .step("machines-left", "machinectl list --no-legend")
            .step("cgroups-left", "find /sys/fs/cgroup -name *rkt*")
            .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    report.expect_text("systemd", "running")?;
    expect_from_shell(&report)?;
    expect_from_service(&report)?;
    expect_added_device(&report)?;
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

#[test]
fn a_kernel_panic_is_a_failure() -> Result<()> {
    let Some(config) = config(BUSYBOX) else {
        return Ok(());
    };
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

#[test]
fn a_guest_that_does_not_end_is_a_failure() -> Result<()> {
    let Some(config) = config(BUSYBOX) else {
        return Ok(());
    };
    let config = config.limit(Duration::from_millis(500));
    let error = TestVm::new(config)?.finish().expect_err("it was stopped");
    let error = format!("{error:#}");
    assert!(error.contains("has not ended within"), "{error}");
    Ok(())
}

/// A guest that pods are run on: with stage0, the stage1 image, and an image with the probe imported.
struct Bench {
    config: Config,
    cgroups: Cgroups,
    // The images, until they are on the guest's disk.
    _scratch: tempfile::TempDir,
}

impl Bench {
    fn new(guest: Guest) -> Result<Option<Self>> {
        let Some(config) = config(guest) else {
            return Ok(None);
        };
        let (stage0, stage1) = (build_dir().join("stage0"), build_dir().join("stage1.aci"));
        if let Some(absent) = [&stage0, &stage1].into_iter().find(|path| !path.exists()) {
            skip(&format!(
                "{} is missing: run scripts/build",
                absent.display()
            ));
            return Ok(None);
        }
        let scratch = tempfile::tempdir().context("make a scratch folder")?;
        let probe = stripped(PROBE, scratch.path())?;
        let image = scratch.path().join("app.aci");
        Image::new("example.com/app", &["/probe"])
            .with([
                file("probe", 0o755, std::fs::read(&probe)?),
                dir("tmp/", 0o1777),
            ])
            .aci(&image, Packing::Gzip)?;
        let config = config
            .file(&stage0, "stage0")
            .file(&stage1, "stage1.aci")
            .file(&probe, "probe")
            .file(&image, "app.aci")
            .text("subcgroup", SUBCGROUP)
            .step("cgroups", "stat -f -c %t /sys/fs/cgroup")
            .step("shared", "mkdir /shared")
            .step("import", "/payload/stage0 image import /payload/app.aci");
        Ok(Some(Self {
            config,
            cgroups: guest.cgroups,
            _scratch: scratch,
        }))
    }

    fn finish(self, steps: impl FnOnce(Config) -> Config) -> Result<Report> {
        let report = TestVm::new(steps(self.config))?.finish()?;
        let seen = report.expect("cgroups", &Status::Exited(0))?;
        // The number of cgroup2 file systems.
        let unified = seen.contains("63677270");
        assert_eq!(unified, self.cgroups == Cgroups::Unified, "{seen}");
        report.expect("import", &Status::Exited(0))?;
        Ok(report)
    }
}

/// A program without what only a debugger reads, which is most of it.
fn stripped(program: &str, scratch: &Path) -> Result<PathBuf> {
    let name = Path::new(program).file_name().context("no name")?;
    let out = scratch.join(name);
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&out).arg(program);
    process::run(strip)?.expect(0)?;
    Ok(out)
}

/// A guest that is to be started, unless there is a reason not to.
fn config(guest: Guest) -> Option<Config> {
    let Some(reason) = missing(guest) else {
        return Some(Config::new(guest, Path::new(AGENT)));
    };
    skip(&reason);
    None
}

/// Says why a test is skipped; with STAGE1_REQUIRE_VM=1 in the environment, as scripts/test sets it, that is a failure.
fn skip(reason: &str) {
    let required = std::env::var_os("STAGE1_REQUIRE_VM").is_some_and(|value| value == "1");
    assert!(!required, "{reason}");
    // Not by a print macro, whose text is shown for failures only.
    let _ = writeln!(std::io::stderr(), "VM test skipped: {reason}");
}
