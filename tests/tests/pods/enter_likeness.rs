//! Entering apps: what runs then cannot be told from what the app itself runs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::probe::Seen;
use tests::process::{BOUND, run};

use crate::common::process_of_pod;

tests::cases!("enter_likeness": ; both ways:
    like_what_the_app_runs,
    like_what_an_app_without_protection_runs,
    when_and_where_it_runs
    ; with users:
    like_what_the_app_runs,
    like_what_an_app_without_protection_runs,
);

/// Lines of `/proc/self/status` that are about one process and not about what it may do.
const OF_ONE_PROCESS: [&str; 9] = [
    "FDSize", "NSpgid", "NSpid", "NSsid", "NStgid", "Name", "PPid", "Pid", "Tgid",
];
/// Signals 32 and 33, which the C library keeps for itself: a child that it starts has them ignored.
const OF_THE_LIBRARY: u64 = 3 << 31;

/// What is compared besides what the probe always reports.
const FILES: [&str; 9] = [
    "attr/current",
    "coredump_filter",
    "gid_map",
    "loginuid",
    "personality",
    "projid_map",
    "sessionid",
    "timerslack_ns",
    "uid_map",
];

fn looks() -> Vec<String> {
    FILES
        .iter()
        .flat_map(|file| ["--read".to_owned(), format!("/proc/self/{file}")])
        .collect()
}

/// An app that has a child report to `/out/NAME.child.json`, and takes another step then.
pub(crate) fn forking(name: &str, then: &[&str]) -> App {
    forking_after(name, &[], then)
}

/// The same, with steps before.
fn forking_after(name: &str, before: &[&str], then: &[&str]) -> App {
    let out = format!("/out/{name}.child.json");
    let first = before.iter().map(|&word| word.to_owned());
    let mut words: Vec<String> = ["do".to_owned()].into_iter().chain(first).collect();
    words.extend(["spawn", "see", "--out", &out].map(Into::into));
    words.extend(looks());
    words.push("+".into());
    words.extend(then.iter().map(|&word| word.into()));
    App::probe(name, words)
}

/// The same, when all apps have started: once one has a controller, systemd gives it to the others too, also to those that
/// run already.
fn forking_together(name: &str) -> App {
    let up = format!("/out/{name}.up");
    let steps = ["write", &up, "", "+", "wait-file", "/out/go", "+"];
    forking_after(name, &steps, &["hang"])
}

/// Enters an app and has the probe report.
pub(crate) fn enter(fixture: &Fixture, uuid: &str, app: &str) -> Result<Seen> {
    let option = format!("--app={app}");
    let words = ["enter", &option, uuid, "/probe", "see"].map(str::to_owned);
    let mut command = fixture.command(words.into_iter().chain(looks()));
    // Not the app's, and no variable of a terminal is expected where there is none.
    command
        .env("LEAKED_FROM_THE_CALLER", "1")
        .env_remove("TERM");
    let finished = run(command)?.expect(0)?;
    serde_json::from_str(&finished.stdout).with_context(|| format!("no report: {finished}"))
}

/// What must be the same, by name.
pub(crate) fn likeness(seen: &Seen) -> Result<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    let mut add = |name: &str, value: serde_json::Value| {
        parts.insert(name.to_owned(), format!("{value:#}"));
    };
    let status = seen.status.iter().filter(|(name, _)| {
        let changes = [
            "Vm",
            "Rss",
            "voluntary",
            "nonvoluntary",
            "SigQ",
            "State",
            "Mems_",
            "Hugetlb",
        ];
        !OF_ONE_PROCESS.contains(&name.as_str())
            && !changes.iter().any(|start| name.starts_with(start))
    });
    for (name, value) in status {
        let value = match name.as_str() {
            "SigIgn" => format!("{:x}", u64::from_str_radix(value, 16)? & !OF_THE_LIBRARY),
            _ => value.clone(),
        };
        add(&format!("status: {name}"), json!(value));
    }
    add("environment", json!(seen.env));
    add("working directory", json!(seen.cwd));
    add("user ids", json!(seen.uids));
    add("group ids", json!(seen.gids));
    add("groups", json!(seen.groups));
    add("capabilities", json!(seen.capabilities));
    add("securebits", json!(seen.securebits));
    add("descriptors", json!(seen.fds.keys().collect::<Vec<_>>()));
    add("mounts", json!(seen.mounts));
    add("cgroups", json!(seen.cgroups));
    add("namespaces", json!(seen.namespaces));
    add("host name", json!(seen.hostname));
    add("limits", json!(seen.limits));
    add("OOM score", json!(seen.oom_score_adj));
    add("scheduling", json!(seen.scheduling));
    add("controlling terminal", json!(seen.terminal.controlling));
    for (look, outcome) in &seen.looks {
        add(look, json!(outcome));
    }
    Ok(parts)
}

/// Runs a pod of these apps and compares in each what it runs with what is entered.
fn compare(options: &[&str], apps: Vec<App>, names: &[&str]) -> Result<()> {
    with(|fixture| {
        let mut pod = fixture.pod(apps.clone()).option("--no-overlay");
        for option in options {
            pod = pod.option(*option);
        }
        let running = pod.start_apps()?;
        for name in names {
            let up = fixture.out(&format!("{name}.up"));
            tests::wait::for_path(&up, Some(BOUND)).with_context(|| (*name).to_owned())?;
        }
        fs::write(fixture.out("go"), "")?;
        for name in names {
            wait_for_child(fixture, name)?;
        }
        let uuid = fixture.only_pod()?;
        let mut differences = Vec::new();
        for name in names {
            differences.extend(differ(fixture, &uuid, name)?);
        }
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

fn wait_for_child(fixture: &Fixture, name: &str) -> Result<()> {
    let report = fixture.out(&format!("{name}.child.json"));
    tests::wait::for_path(&report, Some(BOUND)).with_context(|| name.to_string())
}

/// What is not the same in the child that an app has and in what is entered.
fn differ(fixture: &Fixture, uuid: &str, name: &str) -> Result<Vec<String>> {
    let child = likeness(&fixture.seen(&format!("{name}.child"))?)?;
    let entered = enter(fixture, uuid, name).with_context(|| name.to_string())?;
    let entered = likeness(&entered)?;
    ensure!(child.keys().eq(entered.keys()), "{name}: other fields");
    let differs = child
        .iter()
        .filter(|(field, value)| entered[*field] != **value);
    let differences = differs.map(|(field, value)| {
        let entered = &entered[field];
        format!("{name}: {field}: {value} in the app, {entered} entered")
    });
    Ok(differences.collect())
}

/// When the main process is made to run is not in any manifest: it, or root of the host, may change that at any time.
fn when_and_where_it_runs() -> Result<()> {
    with(|fixture| {
        let steps = ["write", "/out/up", "", "+", "wait-file", "/out/go", "+"];
        let app = forking_after("a", &steps, &["hang"]);
        let running = fixture.pod([app]).option("--no-overlay").start_apps()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        change(process_of_pod(&uuid, "probe")?)?;
        fs::write(fixture.out("go"), "")?;
        wait_for_child(fixture, "a")?;
        let changed = fixture.seen("a.child")?;
        assert_ne!(changed.scheduling["policy"], 0);
        assert_eq!(changed.status["Cpus_allowed_list"], "0");
        let differences = differ(fixture, &uuid, "a")?;
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

/// What is done to the main process, the pid being the last word. Not so much that it would hardly run any more where
/// others keep the processors busy.
const TOOLS: [&str; 4] = [
    "renice -n 2 -p",
    "chrt --batch -p 0",
    "ionice -c 2 -n 6 -p",
    "taskset -c -p 0",
];

/// Changes when and where a process runs.
fn change(pid: Pid) -> Result<()> {
    let pid = pid.to_string();
    for tool in TOOLS {
        let mut words = tool.split(' ').chain([pid.as_str()]);
        let mut command = Command::new(words.next().context("no tool")?);
        command.args(words);
        run(command)?.expect(0)?;
    }
    let slack = format!("/proc/{pid}/timerslack_ns");
    fs::write(&slack, "123456").with_context(|| format!("write {slack}"))
}

fn like_what_the_app_runs() -> Result<()> {
    let alice = |app: App| {
        app.option("--user=alice")
            .option("--supplementary-gids=4567")
    };
    let no_new_privileges = json!([{ "name": "os/linux/no-new-privileges", "value": true }]);
    let kinds: [(&str, &dyn Fn(App) -> App); 9] = [
        ("memory", &|app| {
            app.option("--memory=256Mi")
                .option("--cpu=500m")
                .option("--cpu-shares=300")
        }),
        ("plain", &|app| app),
        ("retain", &|app| {
            app.option("--caps-retain=CAP_CHOWN,CAP_NET_ADMIN")
        }),
        ("remove", &|app| {
            app.option("--caps-remove=CAP_CHOWN,CAP_SETPCAP")
        }),
        ("seccomp", &|app| {
            app.option("--seccomp=mode=remove,errno=ENOSYS,chmod,mkdirat")
        }),
        ("nnp", &|app| {
            app.change(|image| image.app("isolators", no_new_privileges.clone()))
        }),
        ("score", &|app| app.option("--oom-score-adj=500")),
        ("readonly", &|app| app.option("--readonly-rootfs")),
        ("there", &|app| {
            app.option("--working-dir=/tmp")
                .option("--environment=A.b=c d")
        }),
    ];
    let (mut apps, mut names) = (Vec::new(), Vec::new());
    for (kind, change) in kinds {
        for user in ["root", "alice"] {
            let name = format!("{kind}-{user}");
            let app = change(forking_together(&name));
            apps.push(if user == "alice" { alice(app) } else { app });
            names.push(name);
        }
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    compare(&[], apps, &names)
}

fn like_what_an_app_without_protection_runs() -> Result<()> {
    let apps = vec![
        forking_together("root"),
        forking_together("alice").option("--user=alice"),
    ];
    compare(&["--insecure-options=all-run"], apps, &["root", "alice"])
}
