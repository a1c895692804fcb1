//! What machined's commands can do with a pod.

use anyhow::{Result, ensure};
use tests::vm::{Config, Guest, Report, Status};

use super::bench::Bench;

/// Starts a pod as from a shell, whose app tells when it is up and when it is asked to end.
const RUN: &str = r#"
chmod 1777 /shared
exec systemd-run --scope --quiet -- /payload/stage0 run --uuid-file-save=/shared/$1-uuid $2 \
    --volume=shared,kind=host,source=/shared --mount=volume=shared,target=/shared example.com/app -- do \
    write /shared/$1-up x + until-term + write /shared/$1-asked x
"#;

/// A command of machinectl about that pod.
const MACHINECTL: &str = r#"
name=$1
shift
exec machinectl --no-pager "$@" "rkt-$(cat /shared/$name-uuid)"
"#;

/// Commands that reach the root of that pod: what they have put there is read through its PID 1.
const REACH: &str = r#"
machine=rkt-$(cat /shared/$1-uuid)
root=/proc/$(machinectl show "$machine" --property=Leader --value)/root
mkdir -p /shared/dir
echo to-and-from >/shared/dir/file
machinectl copy-to "$machine" /shared/dir/file /copied && cat "$root/copied"
machinectl copy-from "$machine" /copied /shared/$1-back && cat /shared/$1-back
machinectl bind --mkdir "$machine" /shared/dir /bound && cat "$root/bound/file"
"#;

/// A pod, and the command that ends it.
struct Pod {
    name: &'static str,
    options: &'static str,
    end: &'static str,
    /// The app is asked to end.
    asked: bool,
}

const fn pod(name: &'static str, options: &'static str, end: &'static str, asked: bool) -> Pod {
    Pod {
        name,
        options,
        end,
        asked,
    }
}

const LOOKED_AT: &str = "poweroff";
const WITH_USERS: &str = "users";
const PODS: [Pod; 6] = [
    pod(LOOKED_AT, "", "poweroff", true),
    pod("stop", "", "stop", true),
    pod("reboot", "", "reboot", true),
    pod("terminate", "", "terminate", true),
    pod("kill", "", "kill --kill-whom=all --signal=KILL", false),
    pod(WITH_USERS, "--private-users", "stop", true),
];

pub(crate) fn machinectl_shows_and_ends_pods(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        let config = config
            .text("run", RUN)
            .text("machinectl", MACHINECTL)
            .text("reach", REACH)
            .step("systemd", "systemctl is-system-running --wait");
        PODS.iter()
            .fold(config, ending)
            .step("gc", "/payload/stage0 gc --grace-period=0s")
            .step("machines-left", "machinectl list --no-legend")
            .step("units-left", "systemctl list-units --all --no-legend *rkt*")
            .step("cgroups-left", "find /sys/fs/cgroup -name *rkt*")
            .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    for pod in &PODS {
        expect_ended(&report, pod)?;
    }
    expect_shown(&report)?;
    report.expect("gc", &Status::Exited(0))?;
    for none in ["machines-left", "units-left", "cgroups-left"] {
        assert_eq!(report.expect(none, &Status::Exited(0))?, "", "{none}");
    }
    report.expect("mounts-left", &Status::Exited(1)).map(drop)
}

/// A pod that a command ends; two are looked at before.
fn ending(config: Config, pod: &Pod) -> Config {
    let name = pod.name;
    let of = |step: &str| format!("{name}-{step}");
    let machinectl = |command: &str| format!("sh /payload/machinectl {name} {command}");
    let config = config
        .start(
            &of("pod"),
            &format!("sh /payload/run {name} {}", pod.options),
        )
        .step(
            &of("up"),
            &format!("/payload/probe wait-file /shared/{name}-up"),
        );
    let config = match name {
        WITH_USERS => config.step("reach-users", &format!("sh /payload/reach {name}")),
        LOOKED_AT => ["list --no-legend", "status", "show", "shell", "login"]
            .into_iter()
            .fold(config, |config, command| {
                let step = command.split(' ').next().unwrap_or_default();
                match step {
                    "list" => config.step(step, &format!("machinectl {command}")),
                    _ => config.step(step, &machinectl(command)),
                }
            })
            .step("reach", &format!("sh /payload/reach {name}")),
        _ => config,
    };
    config
        .step(&of("end"), &machinectl(pod.end))
        .join(&of("pod"))
        .step(&of("asked"), &format!("test -e /shared/{name}-asked"))
}

fn expect_shown(report: &Report) -> Result<()> {
    report.expect_text("list", "container systemd-nspawn")?;
    report.expect_text("status", "Unit: machine-rkt")?;
    report.expect_text("show", "Service=systemd-nspawn")?;
    let reached = report.expect("reach", &Status::Exited(0))?;
    ensure!(reached.matches("to-and-from").count() == 3, "{reached}");
    // machined mounts nothing in a user namespace.
    let reached = report.expect("reach-users", &Status::Exited(1))?;
    let expected = [
        reached.matches("to-and-from").count() == 2,
        reached.contains("user namespacing"),
    ];
    ensure!(expected == [true; 2], "{reached}");
    for step in ["shell", "login"] {
        let failed = report.expect(step, &Status::Exited(1))?;
        ensure!(failed.contains("Failed to get"), "{step}: {failed}");
    }
    Ok(())
}

fn expect_ended(report: &Report, pod: &Pod) -> Result<()> {
    let of = |step: &str| format!("{}-{step}", pod.name);
    report.expect(&of("up"), &Status::Exited(0))?;
    report.expect(&of("end"), &Status::Exited(0))?;
    let was_asked = Status::Exited(if pod.asked { 0 } else { 1 });
    report.expect(&of("asked"), &was_asked)?;
    if pod.asked {
        report.expect(&of("pod"), &Status::Exited(0))?;
    }
    Ok(())
}
