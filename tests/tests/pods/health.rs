//! Health commands: they run as the app would run them, their failures are counted, and an unhealthy app may be started again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fixture::{App, Fixture, with};
use tests::leftovers::Marks;
use tests::process::BOUND;

tests::cases!("health":
    unhealthy_and_well_again,
    checks_run_as_the_app,
    unhealthy_apps_are_started_again,
    slow_checks_are_killed_with_what_they_started,
    wrong_requests,
);

/// An app with a health command of these words of the probe.
fn checked(app: App, words: &[&str], more: &[(&str, &str)]) -> App {
    let exec: Vec<_> = ["/probe"].iter().chain(words).collect();
    let exec = serde_json::to_string(&exec).expect("words are JSON");
    let annotations = [
        ("exec", exec.as_str()),
        ("interval", "50ms"),
        ("retries", "2"),
    ];
    annotations
        .iter()
        .chain(more)
        .fold(app, |app, (key, value)| {
            app.option(format!("--annotation=stage1/health-{key}={value}"))
        })
}

/// An app that says that it is up, and goes on with these steps of the probe.
fn up(name: &str, words: &str) -> App {
    let words = format!("do write /out/up-{name} x + {words}");
    App::probe(name, words.split(' '))
}

/// Waits until something holds of the status of an app that has written `/out/up-NAME`.
fn wait_for(
    fixture: &Fixture,
    uuid: &str,
    app: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value> {
    // Before that the pod may be on its way to another place.
    tests::wait::for_path(&fixture.out(&format!("up-{app}")), Some(BOUND))?;
    let statuses = fixture.pod_dir(uuid)?.join("stage1/rootfs/rkt/status");
    let path = statuses.join(format!("{app}.json"));
    let read =
        |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    tests::wait::for_file(&path, Some(BOUND), |path| {
        read(path).is_some_and(|s| holds(&s))
    })
    .with_context(|| format!("{:?}", read(&path)))?;
    read(&path).context("a status")
}

fn unhealthy_and_well_again() -> Result<()> {
    with(|fixture| {
        let server = |name: &str, user: &str| {
            let app = up(name, "until-term").option(format!("--user={user}"));
            checked(app, &["read", "/out/well"], &[])
        };
        let pod = fixture.pod([server("a", "root"), server("b", "alice")]);
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        for app in ["a", "b"] {
            let status = wait_for(fixture, &uuid, app, |s| s["state"] == "unhealthy")?;
            ensure!(status["failedChecks"].as_u64() >= Some(2), "{status}");
        }
        fs::write(fixture.out("well"), "is well\n")?;
        for app in ["a", "b"] {
            let status = wait_for(fixture, &uuid, app, |s| s["state"] == "running")?;
            assert_eq!(
                (&status["failedChecks"], &status["restarts"]),
                (&0.into(), &0.into())
            );
        }
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = running.finish()?.expect(0)?;
        ensure!(!finished.stdout.contains("is well"), "{finished}");
        for app in ["a", "b"] {
            let entries = fixture.journal(&uuid, &[&format!("SYSLOG_IDENTIFIER=health-{app}")])?;
            for part in ["is well", "health: /probe has failed (exit status "] {
                let found = entries.iter().find(|entry| {
                    let text = entry["MESSAGE"].as_str();
                    text.is_some_and(|text| text.contains(part))
                });
                let found = found.with_context(|| format!("no {part:?} in {entries:?}"))?;
                assert_eq!(found["STAGE1_APP"], app);
            }
        }
        Ok(())
    })
}

fn checks_run_as_the_app() -> Result<()> {
    with(|fixture| {
        let key = fixture.path("key");
        fs::write(&key, "secret")?;
        for user in ["root", "alice"] {
            let report = format!("/out/check-{user}.json");
            let main_report = format!("/out/main-{user}.json");
            let main = [
                "do",
                "see",
                "--out",
                &main_report,
                "+",
                "wait-file",
                &report,
                "+",
                "exit",
                "3",
            ];
            let app = App::probe("a", main)
                .option(format!("--user={user}"))
                .option("--environment=LIKE=main")
                .option(format!(
                    "--annotation=stage1/credential/key={}",
                    key.display()
                ));
            let check = ["see", "--out", &report, "--read", "/run/credentials/a/key"];
            let finished = fixture.pod([checked(app, &check, &[])]).run()?;
            // The timer keeps no pod.
            finished.expect(3)?;
            let (main, check) = (
                fixture.seen(&format!("main-{user}"))?,
                fixture.seen(&format!("check-{user}"))?,
            );
            check.expect_like(&main);
        }
        Ok(())
    })
}

fn unhealthy_apps_are_started_again() -> Result<()> {
    with(|fixture| {
        let server = |name: &str, user: &str, words: &str| {
            let app = up(name, words)
                .option(format!("--user={user}"))
                .option("--annotation=stage1/restart=on-failure")
                .option("--annotation=stage1/stop-timeout=500ms");
            let well = format!("/out/well-{name}");
            checked(app, &["read", &well], &[("action", "restart")])
        };
        // One has to be killed; the other one ends well, which is a failure all the same.
        let pod = fixture.pod([
            server("stubborn", "root", "ignore-term + hang"),
            server("polite", "alice", "until-term"),
        ]);
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        for app in ["stubborn", "polite"] {
            let again = |s: &Value| s["restarts"].as_u64() >= Some(1) && s["state"] == "running";
            wait_for(fixture, &uuid, app, again)?;
            fs::write(fixture.out(&format!("well-{app}")), "")?;
        }
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?;
        Ok(())
    })
}

fn slow_checks_are_killed_with_what_they_started() -> Result<()> {
    with(|fixture| {
        let app = up("a", "until-term").option("--user=alice");
        let words = ["do", "spawn", "hang", "+", "hang"];
        let app = checked(app, &words, &[("timeout", "100ms")]);
        let pod = fixture.pod([app]).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        wait_for(fixture, &uuid, "a", |s| {
            s["failedChecks"].as_u64() >= Some(4)
        })?;
        let left = processes_of_checks(&uuid)?;
        // Those of one check at most, and not of all.
        ensure!(left <= 2, "{left} processes of checks are left");
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// How many probes there are in the cgroup of checks at one moment. None when no check runs just then: it comes and goes.
fn processes_of_checks(uuid: &str) -> Result<usize> {
    let found = Marks::new([uuid], &[]).found();
    let cgroups = found.iter().filter_map(|line| line.strip_prefix("cgroup "));
    let mut of_checks = cgroups.filter(|path| path.ends_with("/health-a.service"));
    let Some(cgroup) = of_checks.next() else {
        return Ok(0);
    };
    let pids = fs::read_to_string(Path::new(cgroup).join("cgroup.procs")).unwrap_or_default();
    let is_probe = |pid: &&str| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "probe")
    };
    Ok(pids.lines().filter(is_probe).count())
}

fn wrong_requests() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["exit", "0"]);
        let app = checked(app, &["exit", "0"], &[("action", "restart")]);
        let finished = fixture.pod([app]).run()?;
        finished.expect_refusal(&["stage1/health-action", "needs stage1/restart"])?;
        Ok(())
    })
}
