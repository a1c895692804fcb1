//! Paths of the kernel that are protected, on a kernel of a distribution: this machine's may lack them. And what pods are
//! run with whose apps report what they see.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::probe::{Outcome, Seen};
use tests::vm::{Config, Guest, Report, Status};

use super::bench::Bench;

/// Runs the pod of a manifest, with options.
pub(super) const RUN: &str = r#"
manifest=/payload/$1.json
shift
id=$(/payload/stage0 image import /payload/app.aci)
sed "s/@ID@/$id/g" "$manifest" >/shared/pod.json
exec /payload/stage0 run "$@" --pod-manifest=/shared/pod.json
"#;

/// The reports of apps are for all to write.
pub(super) const OPEN: &str = "chmod 1777 /shared";

/// An app that reports what it sees to the file `NAME.json` of the volume.
pub(super) fn app(name: &str, user: &str, looks: &[&str], isolators: &Value) -> Value {
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

pub(super) fn pod(apps: &[Value]) -> String {
    let manifest = json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "volumes": [{ "name": "shared", "kind": "host", "source": "/shared" }],
        "apps": apps,
    });
    manifest.to_string()
}

/// A step that runs the pod of `NAME.json`, and one that shows the report of each of its apps.
pub(super) fn run(config: Config, name: &str, options: &str, apps: &[&str]) -> Config {
    let config = config.step(name, &format!("sh /payload/run {name} {options}"));
    apps.iter().fold(config, |config, app| {
        config.step(&format!("{name}-{app}"), &format!("cat /shared/{app}.json"))
    })
}

/// What an app of a pod has reported.
pub(super) fn seen(report: &Report, pod: &str, app: &str) -> Result<Seen> {
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
pub(super) const USERS: [(&str, &str); 2] = [("root", "0"), ("other", "1234")];

pub(crate) fn paths_are_protected_unless_that_is_switched_off(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
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
