//! Security modules, which this machine may lack: AppArmor and SELinux, each with a policy of `tests/vm/policies`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::probe::{Outcome, Seen};
use tests::vm::{Config, Guest, Report, Status};

use super::bench::Bench;
use super::protection::{OPEN, RUN, USERS, app, pod, run, seen};

const CURRENT: [&str; 2] = ["--read", "/proc/self/attr/current"];

fn current(seen: &Seen) -> Result<String> {
    let text = seen.text("/proc/self/attr/current")?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

/// Steps that run a pod of a user's app with these isolators, and enter it meanwhile.
fn enter(config: Config, isolators: &Value) -> Config {
    let mut app = app("held", "1234", &[], isolators);
    let exec = "/probe do write /shared/up x + wait-file /shared/go";
    app["app"]["exec"] = exec.split(' ').collect();
    let command = "exec /payload/stage0 enter $(cat /shared/uuid)";
    config
        .text("held.json", &pod(&[app]))
        .text("enter", &format!("{command} /probe read {}", CURRENT[1]))
        .start("held", "sh /payload/run held --uuid-file-save=/shared/uuid")
        .step("held-up", "/payload/probe wait-file /shared/up")
        .step("enter", "sh /payload/enter")
        .step("held-go", "touch /shared/go")
        .join("held")
}

const LOAD_APPARMOR: &str = "
mount -t securityfs securityfs /sys/kernel/security &&
    dd bs=1M if=/payload/policy of=/sys/kernel/security/apparmor/.replace
";

fn asking_apparmor(profile: &str) -> Value {
    json!([{ "name": "os/linux/apparmor-profile", "value": { "profile": profile } }])
}

pub(crate) fn apparmor_profiles_are_applied_or_refused(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let asking = asking_apparmor("stage1-test");
    let writes = ["--write", "/tmp/forbidden", "--write", "/tmp/other"];
    let looks = [CURRENT.as_slice(), &writes].concat();
    let mut apps: Vec<Value> = USERS
        .map(|(name, user)| app(name, user, &looks, &asking))
        .into();
    let with_nnp = json!({ "name": "os/linux/no-new-privileges", "value": true });
    let isolators = apps[1]["app"]["isolators"].as_array_mut();
    isolators.context("isolators")?.push(with_nnp);
    apps.push(app("free", "0", &looks, &json!([])));
    let absent = app("absent", "0", &[], &asking_apparmor("nobody-has-this-one"));
    let report = bench.finish(|config| {
        let config = config
            .security("apparmor")
            .text("load", LOAD_APPARMOR)
            .text("run", RUN)
            .text("loaded.json", &pod(&apps))
            .text("absent.json", &pod(&[absent]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = enter(config, &asking);
        let names = ["root", "other", "free"];
        let config = run(config, "loaded", "--strict-isolators", &names);
        run(config, "absent", "", &[])
    })?;
    report.expect("load", &Status::Exited(0))?;
    report.expect_text("enter", "stage1-test (enforce)")?;
    report.expect("loaded", &Status::Exited(0))?;
    let denied = Outcome::Error(rustix::io::Errno::ACCESS.raw_os_error());
    for (name, profile, forbidden) in [
        ("root", "stage1-test (enforce)", &denied),
        ("other", "stage1-test (enforce)", &denied),
        ("free", "unconfined", &Outcome::Writable),
    ] {
        let seen = seen(&report, "loaded", name)?;
        assert_eq!(current(&seen)?, profile, "{name}");
        assert_eq!(seen.look("write", "/tmp/forbidden")?, forbidden, "{name}");
        assert_eq!(seen.look("write", "/tmp/other")?, &Outcome::Writable);
    }
    let line =
        r#"app absent: os/linux/apparmor-profile: profile: "nobody-has-this-one" is not loaded"#;
    expect_refusal(&report, "absent", line)
}

fn expect_refusal(report: &Report, step: &str, line: &str) -> Result<()> {
    let output = report.expect(step, &Status::Exited(254))?;
    ensure!(output.contains(line), "no {line:?} in {output}");
    Ok(())
}

/// setpriority(2) with arguments of zero: of the process itself, to the priority that it has. Only a security module
/// refuses that.
const SETPRIORITY: i64 = nix::libc::SYS_setpriority;

/// Adds an app to a pod that runs without one, starts it, and stops the pod when the app has reported.
const ADD: &str = r#"
uuid=$(cat /shared/sandbox)
/payload/probe wait-file "/var/lib/stage0/pods/run/$uuid" &&
    /payload/stage0 app add --mount=volume=shared,target=/shared "$uuid" example.com/app --name=added \
        -- see --out /shared/added.json --read /proc/self/attr/current &&
    /payload/stage0 app start --app=added "$uuid" &&
    /payload/probe wait-file /shared/added.json
/payload/stage0 stop "$uuid"
"#;

/// Steps that run a pod to which an app is added.
fn add(config: Config) -> Config {
    let sandbox =
        "app sandbox --uuid-file-save=/shared/sandbox --volume=shared,kind=host,source=/shared";
    config
        .text(
            "sandbox",
            &format!("{}exec /payload/stage0 {sandbox}\n", contexts(OF_POD)),
        )
        .text("add", ADD)
        .start("sandbox", "sh /payload/sandbox")
        .step("sandbox-up", "/payload/probe wait-file /shared/sandbox")
        .step("add", "sh /payload/add")
        .join("sandbox")
        .step("known-added", "cat /shared/added.json")
}

/// Lines of a script that set the pod's contexts.
fn contexts(of_processes: &str) -> String {
    format!("export RKT_SELINUX_CONTEXT={of_processes} RKT_SELINUX_MOUNT_CONTEXT={OF_POD}\n")
}

const OF_POD: &str = "host_u:host_r:pod_t:s0:c0";
const OF_NOBODY: &str = "host_u:host_r:nobody_t:s0";
const OF_APP: &str = "host_u:host_r:app_t:s0:c0";

const LOAD_SELINUX: &str = "
mount -t selinuxfs selinuxfs /sys/fs/selinux &&
    dd bs=1M if=/payload/policy of=/sys/fs/selinux/load &&
    cat /sys/fs/selinux/enforce
";

fn asking_selinux(kind: &str) -> Value {
    let value = json!({ "user": "host_u", "role": "host_r", "type": kind, "level": "s0:c0" });
    json!([{ "name": "os/linux/selinux-context", "value": value }])
}

pub(crate) fn selinux_contexts_are_applied_or_refused(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let asking = asking_selinux("app_t");
    let mut apps: Vec<Value> = USERS
        .map(|(name, user)| app(name, user, &CURRENT, &asking))
        .into();
    apps.push(app("plain", "0", &CURRENT, &json!([])));
    let priority = SETPRIORITY.to_string();
    for app in &mut apps {
        let exec = app["app"]["exec"].as_array_mut().context("exec")?;
        exec.extend(["+", "call", &priority].map(Value::from));
    }
    let unknown = app("unknown", "0", &[], &asking_selinux("unknown_t"));
    let plain = app("plain", "0", &CURRENT, &json!([]));
    let report = bench.finish(|config| {
        let config = config
            .security("selinux")
            .text("load", LOAD_SELINUX)
            .text("run", &(contexts(OF_POD) + RUN))
            .text("run-wrong", &(contexts(OF_NOBODY) + RUN))
            .text("known.json", &pod(&apps))
            .text("unknown.json", &pod(&[unknown]))
            .text("plain.json", &pod(&[plain]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = add(enter(config, &asking));
        let names = ["root", "other", "plain"];
        let config = run(config, "known", "--strict-isolators", &names);
        run(config, "unknown", "", &[]).step("wrong", "sh /payload/run-wrong plain")
    })?;
    report.expect_text("load", "1")?;
    report.expect_text("enter", OF_APP)?;
    report.expect("add", &Status::Exited(0))?;
    expect_context(&report, "added", OF_POD)?;
    let output = report.expect("known", &Status::Exited(0))?;
    for (name, context, answer) in [
        ("root", OF_APP, "EACCES"),
        ("other", OF_APP, "EACCES"),
        ("plain", OF_POD, "ok"),
    ] {
        expect_context(&report, name, context)?;
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
fn expect_context(report: &Report, name: &str, context: &str) -> Result<()> {
    let seen = seen(report, "known", name)?;
    assert_eq!(current(&seen)?, context, "{name}");
    for place in ["/dev", "/dev/pts", "/dev/shm"] {
        let mount = seen.mount(place).context(place)?.join(" ");
        ensure!(mount.contains(OF_POD), "{place} of {name}: {mount}");
    }
    Ok(())
}
