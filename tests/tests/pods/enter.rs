//! Entering apps: what runs then cannot be told from what the app itself runs.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::probe::{Outcome, Seen};
use tests::process::{BOUND, Finished, run};

tests::cases!("enter":
    like_what_the_app_runs,
    like_what_an_app_without_protection_runs,
    nothing_of_the_host_comes_along,
    statuses_and_errors,
    the_only_app_and_its_shell,
    while_the_pod_starts,
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

/// An app that has a child report to `/out/NAME.child.json`, and then hangs.
fn forking(name: &str) -> App {
    let out = format!("/out/{name}.child.json");
    let mut words: Vec<String> = ["do", "spawn", "see", "--out", &out].map(Into::into).into();
    words.extend(looks());
    words.extend(["+", "hang"].map(Into::into));
    App::probe(name, words)
}

/// Enters an app and has the probe report.
fn enter(fixture: &Fixture, uuid: &str, app: &str) -> Result<Seen> {
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
fn likeness(seen: &Seen) -> Result<BTreeMap<String, String>> {
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
        let running = pod.start()?;
        for name in names {
            tests::wait::for_path(&fixture.out(&format!("{name}.child.json")), Some(BOUND))
                .with_context(|| name.to_string())?;
        }
        let uuid = fixture.only_pod()?;
        let mut differences = Vec::new();
        for name in names {
            let child = likeness(&fixture.seen(&format!("{name}.child"))?)?;
            let entered = enter(fixture, &uuid, name).with_context(|| name.to_string())?;
            let entered = likeness(&entered)?;
            ensure!(child.keys().eq(entered.keys()), "{name}: other fields");
            let differs = child
                .iter()
                .filter(|(field, value)| entered[*field] != **value);
            differences.extend(differs.map(|(field, value)| {
                format!(
                    "{name}: {field}: {value} in the app, {} entered",
                    entered[field]
                )
            }));
        }
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

fn like_what_the_app_runs() -> Result<()> {
    let alice = |app: App| {
        app.option("--user=alice")
            .option("--supplementary-gids=4567")
    };
    let no_new_privileges = json!([{ "name": "os/linux/no-new-privileges", "value": true }]);
    let kinds: [(&str, &dyn Fn(App) -> App); 9] = [
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
        ("memory", &|app| {
            app.option("--memory=256Mi")
                .option("--cpu=500m")
                .option("--cpu-shares=300")
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
            let app = change(forking(&name));
            apps.push(if user == "alice" { alice(app) } else { app });
            names.push(name);
        }
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    compare(&[], apps, &names)
}

fn like_what_an_app_without_protection_runs() -> Result<()> {
    let apps = vec![forking("root"), forking("alice").option("--user=alice")];
    compare(&["--insecure-options=all-run"], apps, &["root", "alice"])
}

/// A pod of one app that hangs.
fn with_pod(app: App, test: impl Fn(&Fixture, &str) -> Result<()>) -> Result<()> {
    with(|fixture| {
        let running = fixture.pod([app.clone()]).option("--no-overlay").start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        test(fixture, &uuid)?;
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

fn hanging() -> App {
    App::probe("a", ["do", "write", "/out/up", "", "+", "hang"])
}

fn nothing_of_the_host_comes_along() -> Result<()> {
    with_pod(hanging(), |fixture, uuid| {
        // More than the three streams are open in this test's process, and in that of the shell.
        let script = "exec 7</etc/passwd 9</; exec \"$@\"";
        let enter = fixture.command(["enter", uuid, "/probe", "see", "--stat", "/proc/self/exe"]);
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(enter.get_program())
            .args(enter.get_args());
        command
            .env("TERM", "of-the-caller")
            .env("LEAKED_FROM_THE_CALLER", "1");
        let finished = run(command)?.expect(0)?;
        let seen: Seen = serde_json::from_str(&finished.stdout)?;
        assert_eq!(
            seen.fds.keys().copied().collect::<Vec<_>>(),
            [0, 1, 2],
            "{:?}",
            seen.fds
        );
        assert_eq!(seen.env("TERM"), Some("of-the-caller"));
        for name in [
            "LEAKED_FROM_THE_CALLER",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "JOURNAL_STREAM",
        ] {
            assert_eq!(seen.env(name), None, "{name}");
        }
        ensure!(!seen.terminal.controlling, "it has a controlling terminal");
        assert_eq!(seen.argv[0], "/probe");
        let exe = seen.look("stat", "/proc/self/exe")?;
        ensure!(
            matches!(exe, Outcome::Node(node) if node.target == Some("/probe".into())),
            "{exe:?}"
        );
        Ok(())
    })
}

fn statuses_and_errors() -> Result<()> {
    with_pod(hanging(), |fixture, uuid| {
        let enter = |words: &[&str]| -> Result<Finished> {
            fixture.stage0(["enter", uuid].iter().chain(words))
        };
        enter(&["/probe", "exit", "7"])?.expect(7)?;
        enter(&["/probe", "kill", "KILL"])?.expect(137)?;
        // Looked up in the app's PATH, as the app's own program is.
        for (program, code, reason) in [
            ("/not/there", 127, "No such file or directory"),
            ("not-there", 127, "No such file or directory"),
            ("/etc/passwd", 126, "Permission denied"),
        ] {
            let finished = enter(&[program])?.expect(code)?;
            ensure!(
                finished.stderr.contains(program) && finished.stderr.contains(reason),
                "{finished}"
            );
        }
        fixture
            .stage0(["enter", "--app=b", uuid, "/probe"])?
            .expect_refusal(&["--app=b", "no such app, but a"])?;
        let finished = fixture
            .pod([App::probe("b", ["exit", "0"])])
            .run()?
            .expect(0)?;
        drop(finished);
        let mut pods = fixture.pods().into_iter().map(|(_, other)| other);
        let ended = pods.find(|other| other != uuid).context("no other pod")?;
        fixture
            .stage0(["enter", &ended, "/probe"])?
            .expect_refusal(&["enter pod", "exited"])?;
        Ok(())
    })
}

fn the_only_app_and_its_shell() -> Result<()> {
    let probe = fs::read(tests::harness::probe())?;
    let shell = |path: &str| tests::image::file(path, 0o755, probe.clone());
    with_pod(hanging(), |fixture, uuid| {
        // Without a shell it is the last one that is not found.
        let finished = fixture.stage0(["enter", uuid])?.expect(127)?;
        ensure!(finished.stderr.contains("/bin/sh"), "{finished}");
        Ok(())
    })?;
    for (files, name) in [
        (vec![shell("bin/sh")], "/bin/sh"),
        (vec![shell("bin/bash"), shell("bin/sh")], "/bin/bash"),
    ] {
        let app = hanging().change(|image| image.with(files.clone()));
        with_pod(app, |fixture, uuid| {
            // The probe reports when it is given no arguments.
            let finished = fixture.stage0(["enter", uuid])?.expect(0)?;
            let seen: Seen = serde_json::from_str(&finished.stdout)?;
            assert_eq!(seen.argv, [name]);
            Ok(())
        })?;
    }
    with(|fixture| {
        let apps = ["a", "b"].map(|name| App::probe(name, ["hang"]));
        let running = fixture.pod(apps).option("--no-overlay").start()?;
        let uuid = wait_for_running(fixture)?;
        fixture
            .stage0(["enter", &uuid, "/probe"])?
            .expect_refusal(&["several apps", "--app", "a, b"])?;
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

/// The UUID of the only pod, once it runs.
fn wait_for_running(fixture: &Fixture) -> Result<String> {
    let end = std::time::Instant::now() + BOUND;
    loop {
        if let [(state, uuid)] = &fixture.pods()[..] {
            if state == "run" && fixture.text(["status", uuid])?.contains("state=running") {
                return Ok(uuid.clone());
            }
        }
        ensure!(std::time::Instant::now() < end, "no pod runs");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn while_the_pod_starts() -> Result<()> {
    with(|fixture| {
        // Its start takes a while: what is entered meanwhile waits for the app's own program.
        let handler = json!([{ "name": "pre-start", "exec": ["/probe", "wait-file", "/out/go"] }]);
        let app = App::probe("a", ["do", "write", "/out/up", "", "+", "hang"])
            .change(|image| image.app("eventHandlers", handler));
        let running = fixture.pod([app]).option("--no-overlay").start()?;
        let uuid = wait_for_running(fixture)?;
        let entering =
            fixture.start(["enter", &uuid, "/probe", "do", "read", "/proc/self/cgroup"])?;
        fs::write(fixture.out("go"), "")?;
        let finished = entering.finish()?.expect(0)?;
        ensure!(finished.stdout.contains("app-a.service"), "{finished}");
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}
