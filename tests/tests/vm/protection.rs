//! What confines an app by means that this machine may lack: security modules, and paths of the kernel that every kernel
//! of a distribution has.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::probe::{Outcome, Seen};
use tests::vm::{Cgroups, Config, Guest, Init, Report, Status};

use super::Bench;

const GUEST: Guest = Guest::new(Init::Busybox, Cgroups::Unified);

/// Runs the pod of a manifest, with options.
const RUN: &str = r#"
manifest=/payload/$1.json
shift
id=$(/payload/stage0 image import /payload/app.aci)
sed "s/@ID@/$id/g" "$manifest" >/shared/pod.json
exec /payload/stage0 run "$@" --pod-manifest=/shared/pod.json
"#;

/// The reports of apps are for all to write.
const OPEN: &str = "chmod 1777 /shared";

/// An app that reports what it sees to the file `NAME.json` of the volume.
fn app(name: &str, user: &str, looks: &[&str], isolators: &Value) -> Value {
    let out = format!("/shared/{name}.json");
    let exec = ["/probe", "do", "see", "--out", &out];
    let exec: Vec<&str> = exec.iter().chain(looks).copied().collect();
    json!({
        "name": name,
        "image": { "id": "@ID@" },
        "mounts": [{ "volume": "shared", "path": "/shared" }],
        "app": { "exec": exec, "user": user, "group": user, "isolators": isolators },
    })
}

fn pod(apps: &[Value]) -> String {
    let manifest = json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "volumes": [{ "name": "shared", "kind": "host", "source": "/shared" }],
        "apps": apps,
    });
    manifest.to_string()
}

/// A step that runs the pod of `NAME.json`, and one that shows the report of each of its apps.
fn run(config: Config, name: &str, options: &str, apps: &[&str]) -> Config {
    let config = config.step(name, &format!("sh /payload/run {name} {options}"));
    apps.iter().fold(config, |config, app| {
        config.step(&format!("{name}-{app}"), &format!("cat /shared/{app}.json"))
    })
}

/// What an app of a pod has reported.
fn seen(report: &Report, pod: &str, app: &str) -> Result<Seen> {
    let json = report.expect(&format!("{pod}-{app}"), &Status::Exited(0))?;
    serde_json::from_str(json).with_context(|| format!("the report of app {app}: {json}"))
}

const HIDDEN_FILES: [&str; 4] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kallsyms",
];
const HIDDEN_DIRS: [&str; 4] = [
    "/proc/acpi",
    "/sys/firmware",
    "/sys/module",
    "/sys/dev/block",
];
const READ_ONLY: [&str; 3] = ["/proc/sys", "/proc/bus", "/proc/sysrq-trigger"];
const USERS: [(&str, &str); 2] = [("root", "0"), ("other", "1234")];

#[test]
fn paths_are_protected_unless_that_is_switched_off() -> Result<()> {
    let Some(bench) = Bench::new(GUEST)? else {
        return Ok(());
    };
    let lists = HIDDEN_DIRS.iter().flat_map(|path| ["--list", path]);
    let looks: Vec<&str> = HIDDEN_FILES
        .iter()
        .flat_map(|path| ["--stat", path])
        .chain(lists)
        .collect();
    let apps = USERS.map(|(name, user)| app(name, user, &looks, &json!([])));
    let names = USERS.map(|(name, _)| name);
    let report = bench.finish(|config| {
        let config = config
            .text("run", RUN)
            .text("on.json", &pod(&apps))
            .text("off.json", &pod(&apps))
            .step("open", OPEN);
        let config = run(config, "on", "", &names);
        run(config, "off", "--insecure-options=paths", &names)
    })?;
    for name in names {
        expect_protected(&seen(&report, "on", name)?, true)?;
        expect_protected(&seen(&report, "off", name)?, false)?;
    }
    Ok(())
}

/// A file is hidden by the device `/dev/null`, a folder by an empty one.
fn expect_protected(seen: &Seen, protected: bool) -> Result<()> {
    for path in HIDDEN_FILES {
        ensure!((seen.stat(path)?.device == (1, 3)) == protected, "{path}");
    }
    for path in HIDDEN_DIRS {
        let empty = *seen.look("list", path)? == Outcome::Names(Vec::new());
        ensure!(empty == protected, "{path}");
    }
    for path in READ_ONLY {
        let read_only = seen
            .mount(path)
            .is_some_and(|fields| fields[5].starts_with("ro"));
        ensure!(read_only == protected, "{path}: {:?}", seen.mount(path));
    }
    Ok(())
}

/// Steps that run a pod of a user's app with these isolators, and enter it meanwhile.
fn enter(config: Config, isolators: &Value) -> Config {
    let mut app = app("held", "1234", &[], isolators);
    let exec = "/probe do write /shared/up x + wait-file /shared/go";
    app["app"]["exec"] = exec.split(' ').collect();
    // It is the first pod of the guest, and the only one.
    let command = "exec /payload/stage0 enter $(basename /var/lib/stage0/pods/run/*)";
    config
        .text("held.json", &pod(&[app]))
        .text("enter", &format!("{command} /probe read {}", CURRENT[1]))
        .start("held", "sh /payload/run held")
        .step("held-up", "/payload/probe wait-file /shared/up")
        .step("enter", "sh /payload/enter")
        .step("held-go", "touch /shared/go")
        .join("held")
}

const CURRENT: [&str; 2] = ["--read", "/proc/self/attr/current"];

fn current(seen: &Seen) -> Result<String> {
    let text = seen.text("/proc/self/attr/current")?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

#[test]
fn apparmor_profiles_are_applied_or_refused() -> Result<()> {
    let Some(bench) = Bench::new(GUEST)? else {
        return Ok(());
    };
    let asking = |profile: &str| json!([{ "name": "os/linux/apparmor-profile", "value": { "profile": profile } }]);
    let writes = ["--write", "/tmp/forbidden", "--write", "/tmp/other"];
    let looks = [CURRENT.as_slice(), &writes].concat();
    let mut apps = USERS.map(|(name, user)| app(name, user, &looks, &asking("stage1-test")));
    let with_nnp = json!({ "name": "os/linux/no-new-privileges", "value": true });
    let isolators = apps[1]["app"]["isolators"].as_array_mut();
    isolators.context("isolators")?.push(with_nnp);
    let free = app("free", "0", &looks, &json!([]));
    let absent = app("absent", "0", &[], &asking("nobody-has-this-one"));
    let report = bench.finish(|config| {
        let config = config
            .security("apparmor")
            .text("load", "mount -t securityfs securityfs /sys/kernel/security && dd bs=1M if=/payload/policy of=/sys/kernel/security/apparmor/.replace")
            .text("run", RUN)
            .text("loaded.json", &pod(&[apps[0].clone(), apps[1].clone(), free]))
            .text("absent.json", &pod(&[absent]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = run(enter(config, &asking("stage1-test")), "loaded", "--strict-isolators", &["root", "other", "free"]);
        run(config, "absent", "", &[]).step("pods", "/payload/stage0 list")
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
    let output = report.expect("absent", &Status::Exited(254))?;
    let line = r#"app absent: os/linux/apparmor-profile: profile: "nobody-has-this-one" is not loaded on this host"#;
    ensure!(output.contains(line), "{output}");
    Ok(())
}

/// setpriority(2) with arguments of zero: of the process itself, to the priority that it has. Only a security module
/// refuses that.
const SETPRIORITY: i64 = nix::libc::SYS_setpriority;

const OF_POD: &str = "host_u:host_r:pod_t:s0:c0";
const OF_APP: &str = "host_u:host_r:app_t:s0:c0";

#[test]
fn selinux_contexts_are_applied_or_refused() -> Result<()> {
    let Some(bench) = Bench::new(GUEST)? else {
        return Ok(());
    };
    let asking = |kind: &str| {
        let value = json!({ "user": "host_u", "role": "host_r", "type": kind, "level": "s0:c0" });
        json!([{ "name": "os/linux/selinux-context", "value": value }])
    };
    let priority = SETPRIORITY.to_string();
    let mut apps: Vec<Value> = USERS
        .iter()
        .map(|(name, user)| app(name, user, &CURRENT, &asking("app_t")))
        .collect();
    apps.push(app("plain", "0", &CURRENT, &json!([])));
    for app in &mut apps {
        let exec = app["app"]["exec"].as_array_mut().context("exec")?;
        exec.extend(["+", "call", &priority].map(Value::from));
    }
    let unknown = app("unknown", "0", &[], &asking("unknown_t"));
    let plain = app("plain", "0", &CURRENT, &json!([]));
    let environment = |context: &str| {
        format!("export RKT_SELINUX_CONTEXT={context} RKT_SELINUX_MOUNT_CONTEXT={OF_POD}\n{RUN}")
    };
    let report = bench.finish(|config| {
        let config = config
            .security("selinux")
            .text("load", "mount -t selinuxfs selinuxfs /sys/fs/selinux && dd bs=1M if=/payload/policy of=/sys/fs/selinux/load && cat /sys/fs/selinux/enforce")
            .text("run", &environment(OF_POD))
            .text("run-wrong", &environment("host_u:host_r:nobody_t:s0"))
            .text("known.json", &pod(&apps))
            .text("unknown.json", &pod(&[unknown]))
            .text("plain.json", &pod(&[plain]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = run(enter(config, &asking("app_t")), "known", "--strict-isolators", &["root", "other", "plain"]);
        run(config, "unknown", "", &[]).step("wrong", "sh /payload/run-wrong plain")
    })?;
    report.expect_text("load", "1")?;
    report.expect_text("enter", OF_APP)?;
    let output = report.expect("known", &Status::Exited(0))?;
    for (name, context, answer) in [
        ("root", OF_APP, "EACCES"),
        ("other", OF_APP, "EACCES"),
        ("plain", OF_POD, "ok"),
    ] {
        let seen = seen(&report, "known", name)?;
        assert_eq!(current(&seen)?, context, "{name}");
        for place in ["/dev", "/dev/pts", "/dev/shm"] {
            let mount = seen.mount(place).context(place)?.join(" ");
            ensure!(mount.contains(OF_POD), "{place} of {name}: {mount}");
        }
        let line = format!("call {priority}: {answer}");
        let of_app = |l: &str| l.contains(&format!("{name}[")) && l.contains(&line);
        ensure!(output.lines().any(of_app), "{name}: {output}");
    }
    let output = report.expect("unknown", &Status::Exited(254))?;
    let line = r#"app unknown: os/linux/selinux-context: the SELinux policy of this host knows no context "host_u:host_r:unknown_t:s0:c0""#;
    ensure!(output.contains(line), "{output}");
    let output = report.expect("wrong", &Status::Exited(254))?;
    let line = r#"RKT_SELINUX_CONTEXT: the SELinux policy of this host knows no context "host_u:host_r:nobody_t:s0""#;
    ensure!(output.contains(line), "{output}");
    Ok(())
}
