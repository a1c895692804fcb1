//! What becomes of each isolator is told, on stderr and in the status: none is dropped without a word.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{Fixture, probe_image, with};

use crate::common::has_apparmor;

tests::cases!("isolators":
    each_has_a_report,
    none_may_be_ignored_when_that_is_asked,
);

/// What must have become of an isolator: the outcome, and what the detail contains.
type Expected = (&'static str, &'static str);

const ENFORCED: Expected = ("enforced", "");
/// As far as this host has the means.
const EITHER_WAY: Expected = ("", "");

/// Every isolator of an app.
fn of_app() -> Vec<(&'static str, Value, Expected)> {
    let lsm = |present: bool, absence| match present {
        true => EITHER_WAY,
        false => ("ignored", absence),
    };
    let has_selinux = Path::new("/sys/fs/selinux/enforce").exists();
    let selinux = lsm(has_selinux, "this host has no SELinux");
    let apparmor = lsm(has_apparmor(), "this host has no AppArmor");
    let context = json!({ "user": "u", "role": "r", "type": "t", "level": "s0" });
    let mut list = vec![
        (
            "os/linux/capabilities-retain-set",
            json!({ "set": ["CAP_CHOWN"] }),
            ENFORCED,
        ),
        ("os/linux/no-new-privileges", json!(true), ENFORCED),
        (
            "os/linux/seccomp-remove-set",
            json!({ "set": ["vmsplice"] }),
            ENFORCED,
        ),
        ("os/linux/oom-score-adj", json!(500), ENFORCED),
        ("os/linux/cpu-shares", json!(1024), ENFORCED),
        ("resource/cpu", json!({ "limit": "900m" }), ENFORCED),
        ("resource/memory", json!({ "limit": "256Mi" }), ENFORCED),
        ("stage1/pids-max", json!(50), ENFORCED),
        (
            "resource/block-bandwidth",
            json!({ "default": true, "limit": "100M" }),
            EITHER_WAY,
        ),
        (
            "resource/block-iops",
            json!({ "default": true, "limit": "1000" }),
            EITHER_WAY,
        ),
        (
            "resource/network-bandwidth",
            json!({ "default": true, "limit": "1M" }),
            ("ignored", "no plugin makes the pod's network"),
        ),
        (
            "os/unix/sysctl",
            json!({ "net.core.somaxconn": "10" }),
            ("ignored", "only a pod can have kernel parameters"),
        ),
        (
            "example.com/of-tomorrow",
            json!({ "any": "thing" }),
            ("ignored", "unknown"),
        ),
    ];
    if selinux != EITHER_WAY {
        list.push(("os/linux/selinux-context", context, selinux));
    }
    if apparmor != EITHER_WAY {
        let profile = json!({ "profile": "any" });
        list.push(("os/linux/apparmor-profile", profile, apparmor));
    }
    list
}

fn of_pod() -> Vec<(&'static str, Value, Expected)> {
    vec![
        ("resource/memory", json!({ "limit": "512Mi" }), ENFORCED),
        (
            "os/unix/sysctl",
            json!({ "kernel.msgmax": "4321" }),
            ENFORCED,
        ),
        (
            "resource/network-bandwidth",
            json!({ "default": true, "limit": "1M" }),
            ("ignored", "no plugin makes the pod's network"),
        ),
        (
            "os/linux/no-new-privileges",
            json!(true),
            ("ignored", "not enforced for a pod, only for apps"),
        ),
        ("example.com/of-tomorrow", json!({}), ("ignored", "unknown")),
    ]
}

fn isolators(list: &[(&str, Value, Expected)]) -> Value {
    let list = list.iter();
    let list = list.map(|(name, value, _)| json!({ "name": name, "value": value }));
    list.collect()
}

/// Writes a manifest with an app of root's and one of another user's; gives the option that names it.
fn manifest(fixture: &Fixture, of_pod: &Value, of_app: &Value) -> Result<String> {
    let id = fixture.import(&probe_image("a"))?;
    let apps = [("root", "0"), ("other", "1234")].map(|(name, user)| {
        let exec = ["/probe", "exit", "0"];
        let app = json!({ "exec": exec, "user": user, "group": user, "isolators": of_app });
        json!({ "name": name, "image": { "id": id }, "app": app })
    });
    let manifest = json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": apps,
        "isolators": of_pod,
    });
    let path = fixture.path("manifest.json");
    std::fs::write(&path, manifest.to_string())?;
    Ok(format!("--pod-manifest={}", path.display()))
}

fn expect(reports: &Value, list: &[(&str, Value, Expected)], stderr: &str) -> Result<()> {
    let reports = reports.as_array().context("no list of reports")?;
    for (name, _, (outcome, detail)) in list {
        let report = reports.iter().find(|report| report["name"] == *name);
        let report = report.with_context(|| format!("no report on {name}: {reports:#?}"))?;
        let found = report["outcome"].as_str().context("no outcome")?;
        let why = report["detail"].as_str().unwrap_or_default();
        ensure!(outcome.is_empty() || found == *outcome, "{report:#}");
        ensure!(why.contains(detail), "{report:#}");
        ensure!((found == "enforced") == why.is_empty(), "{report:#}");
        let line = format!("isolator {name} is {found}: {why}");
        ensure!(
            found == "enforced" || stderr.contains(&line),
            "no {line:?} in {stderr}"
        );
    }
    Ok(())
}

fn each_has_a_report() -> Result<()> {
    with(|fixture| {
        let (of_pod, of_app) = (of_pod(), of_app());
        let option = manifest(fixture, &isolators(&of_pod), &isolators(&of_app))?;
        let finished = fixture
            .stage0(["run", "--no-overlay", &option])?
            .expect(0)?;
        let rkt = fixture.pod_dir(&fixture.only_pod()?)?;
        let rkt = rkt.join("stage1/rootfs/rkt");
        let read = |name: &str| -> Result<Value> {
            let path = rkt.join(name);
            let json = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            Ok(serde_json::from_slice(&json)?)
        };
        let told = format!("{}{}", finished.stderr, finished.stdout);
        for app in ["root", "other"] {
            let status = read(&format!("status/{app}.json"))?;
            expect(&status["isolators"], &of_app, &told).context(app)?;
        }
        expect(&read("pod-isolators.json")?, &of_pod, &told).context("the pod")
    })
}

fn none_may_be_ignored_when_that_is_asked() -> Result<()> {
    with(|fixture| {
        let ignored = |list: Vec<(&'static str, Value, Expected)>| {
            let list = list.into_iter();
            list.filter(|(_, _, (outcome, _))| *outcome == "ignored")
        };
        let none = json!([]);
        let of_apps = ignored(of_app()).map(|one| (one.0, none.clone(), isolators(&[one])));
        let of_pods = ignored(of_pod()).map(|one| (one.0, isolators(&[one]), none.clone()));
        for (name, of_pod, of_app) in of_apps.chain(of_pods) {
            let option = manifest(fixture, &of_pod, &of_app)?;
            fixture
                .stage0(["run", "--strict-isolators", &option])?
                .expect_refusal(&[name, "is ignored", "--strict-isolators"])?;
        }
        Ok(())
    })
}
