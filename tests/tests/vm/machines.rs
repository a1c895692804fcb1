//! What machined's commands can do with a pod.

use anyhow::{Result, ensure};
use tests::vm::{Config, Guest, Report, Status};

use super::bench::Bench;

/// Starts a pod as from a shell, whose app tells when it is up and when it is asked to end.
const RUN: &str = r#"
exec systemd-run --scope --quiet -- /payload/stage0 run --uuid-file-save=/shared/$1-uuid \
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
mkdir /shared/dir
echo to-and-from >/shared/dir/file
machinectl copy-to "$machine" /shared/dir/file /copied && cat "$root/copied"
machinectl copy-from "$machine" /copied /shared/back && cat /shared/back
machinectl bind --mkdir "$machine" /shared/dir /bound && cat "$root/bound/file"
"#;

/// Commands that end a pod, and whether its app is asked.
const ENDING: [(&str, bool); 5] = [
    ("poweroff", true),
    ("stop", true),
    ("reboot", true),
    ("terminate", true),
    ("kill --kill-whom=all --signal=KILL", false),
];
const NAMES: [&str; 5] = ["poweroff", "stop", "reboot", "terminate", "kill"];

pub(crate) fn machinectl_shows_and_ends_pods(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        let config = config
            .text("run", RUN)
            .text("machinectl", MACHINECTL)
            .text("reach", REACH)
            .step("systemd", "systemctl is-system-running --wait");
        let pods = NAMES.into_iter().zip(ENDING);
        pods.fold(config, |config, (name, (command, _))| {
            ending(config, name, command)
        })
        .step("gc", "/payload/stage0 gc --grace-period=0s")
        .step("machines-left", "machinectl list --no-legend")
        .step("cgroups-left", "find /sys/fs/cgroup -name *rkt*")
        .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    for (name, (_, asked)) in NAMES.into_iter().zip(ENDING) {
        expect_ended(&report, name, asked)?;
    }
    expect_shown(&report)?;
    report.expect("gc", &Status::Exited(0))?;
    for none in ["machines-left", "cgroups-left"] {
        assert_eq!(report.expect(none, &Status::Exited(0))?, "", "{none}");
    }
    report.expect("mounts-left", &Status::Exited(1)).map(drop)
}

/// A pod that a command ends; the first one is looked at before.
fn ending(config: Config, name: &str, command: &str) -> Config {
    let of = |step: &str| format!("{name}-{step}");
    let machinectl = |command: &str| format!("sh /payload/machinectl {name} {command}");
    let config = config
        .start(&of("pod"), &format!("sh /payload/run {name}"))
        .step(
            &of("up"),
            &format!("/payload/probe wait-file /shared/{name}-up"),
        );
    let config = match name == NAMES[0] {
        false => config,
        true => ["list --no-legend", "status", "show", "shell", "login"]
            .into_iter()
            .fold(config, |config, command| {
                let step = command.split(' ').next().unwrap_or_default();
                match step {
                    "list" => config.step(step, &format!("machinectl {command}")),
                    _ => config.step(step, &machinectl(command)),
                }
            })
            .step("reach", &format!("sh /payload/reach {name}")),
    };
    config
        .step(&of("end"), &machinectl(command))
        .join(&of("pod"))
        .step(&of("asked"), &format!("test -e /shared/{name}-asked"))
}

fn expect_shown(report: &Report) -> Result<()> {
    report.expect_text("list", "container systemd-nspawn")?;
    report.expect_text("status", "Unit: machine-rkt")?;
    report.expect_text("show", "Service=systemd-nspawn")?;
    let reached = report.expect("reach", &Status::Exited(0))?;
    ensure!(reached.matches("to-and-from").count() == 3, "{reached}");
    for step in ["shell", "login"] {
        let failed = report.expect(step, &Status::Exited(1))?;
        ensure!(failed.contains("Failed to get"), "{step}: {failed}");
    }
    Ok(())
}

fn expect_ended(report: &Report, name: &str, asked: bool) -> Result<()> {
    report.expect(&format!("{name}-up"), &Status::Exited(0))?;
    report.expect(&format!("{name}-end"), &Status::Exited(0))?;
    let was_asked = Status::Exited(if asked { 0 } else { 1 });
    report.expect(&format!("{name}-asked"), &was_asked)?;
    if asked {
        report.expect(&format!("{name}-pod"), &Status::Exited(0))?;
    }
    Ok(())
}
