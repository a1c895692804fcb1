//! SELinux contexts of apps and pods.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::vm::{Guest, Report, Status};

use super::bench::Bench;
use super::protection::{OPEN, RUN, USERS, app, pod, run, seen};
use super::security::{CURRENT, add, current, enter, expect_refusal};

/// setpriority(2) with arguments of zero: of the process itself, to the priority that it has. Only a security module
/// refuses that.
const SETPRIORITY: i64 = nix::libc::SYS_setpriority;

/// Lines of a script that set the pod's contexts.
fn contexts(of_processes: &str) -> String {
    format!("export RKT_SELINUX_CONTEXT={of_processes} RKT_SELINUX_MOUNT_CONTEXT={OF_POD}\n")
}

const OF_POD: &str = "host_u:host_r:pod_t:s0:c0";
const OF_NOBODY: &str = "host_u:host_r:nobody_t:s0";
const OF_APP: &str = "host_u:host_r:app_t:s0:c0";

const LOAD: &str = "
mount -t selinuxfs selinuxfs /sys/fs/selinux &&
    dd bs=1M if=/payload/policy of=/sys/fs/selinux/load &&
    cat /sys/fs/selinux/enforce
";

fn asking(kind: &str) -> Value {
    let value = json!({ "user": "host_u", "role": "host_r", "type": kind, "level": "s0:c0" });
    json!([{ "name": "os/linux/selinux-context", "value": value }])
}

pub(crate) fn contexts_are_applied_or_refused(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let isolators = asking("app_t");
    let mut apps: Vec<Value> = USERS
        .map(|(name, user)| app(name, user, &CURRENT, &isolators))
        .into();
    apps.push(app("plain", "0", &CURRENT, &json!([])));
    let priority = SETPRIORITY.to_string();
    for app in &mut apps {
        let exec = app["app"]["exec"].as_array_mut().context("exec")?;
        exec.extend(["+", "call", &priority].map(Value::from));
    }
    let unknown = app("unknown", "0", &[], &asking("unknown_t"));
    let plain = app("plain", "0", &CURRENT, &json!([]));
    let report = bench.finish(|config| {
        let config = config
            .security("selinux")
            .text("load", LOAD)
            .text("run", &(contexts(OF_POD) + RUN))
            .text("run-wrong", &(contexts(OF_NOBODY) + RUN))
            .text("known.json", &pod(&apps))
            .text("unknown.json", &pod(&[unknown]))
            .text("plain.json", &pod(&[plain]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = enter(config, &isolators);
        let config = add(config, &contexts(OF_POD), "app", |config| config);
        let names = ["root", "other", "plain"];
        let config = run(config, "known", "--strict-isolators", &names);
        run(config, "unknown", "", &[]).step("wrong", "sh /payload/run-wrong plain")
    })?;
    report.expect_text("load", "1")?;
    report.expect_text("enter", OF_APP)?;
    report.expect("add", &Status::Exited(0))?;
    expect_context(&report, "sandbox", "added", OF_POD)?;
    let output = report.expect("known", &Status::Exited(0))?;
    for (name, context, answer) in [
        ("root", OF_APP, "EACCES"),
        ("other", OF_APP, "EACCES"),
        ("plain", OF_POD, "ok"),
    ] {
        expect_context(&report, "known", name, context)?;
        let line = format!("call {priority}: {answer}");
        let of_app = |l: &str| l.contains(&format!("{name}[")) && l.contains(&line);
        ensure!(output.lines().any(of_app), "{name}: {output}");
    }
    let knows_none = "the SELinux policy of this host knows no context";
    let line = format!("app unknown: os/linux/selinux-context: {knows_none}");
    expect_refusal(&report, "unknown", &line)?;
    let line = format!("RKT_SELINUX_CONTEXT: {knows_none} {OF_NOBODY:?}");
    expect_refusal(&report, "wrong", &line)
}

/// What an app is confined to, and that it could use what is mounted for it.
fn expect_context(report: &Report, pod: &str, name: &str, context: &str) -> Result<()> {
    let seen = seen(report, pod, name)?;
    assert_eq!(current(&seen)?, context, "{name}");
    for place in ["/dev", "/dev/pts", "/dev/shm"] {
        let mount = seen.mount(place).context(place)?.join(" ");
        ensure!(mount.contains(OF_POD), "{place} of {name}: {mount}");
    }
    Ok(())
}
