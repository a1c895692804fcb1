//! Apps that start again, as their annotations ask.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::fixture::{App, Fixture, with};
use tests::process::BOUND;

use crate::common::{app_status, status_file};

tests::cases!("restarts":
    waits_grow_and_the_pod_lives_on,
    policies_say_after_which_end,
    a_stop_ends_the_wait_at_once,
    who_waits_is_not_what_the_pod_ends_for,
    a_start_that_fails_is_waited_after_too,
    of_an_app_that_comes_and_goes,
);

/// An app that adds to `/out/NAME` at each start, and goes on with `steps`.
fn counting(name: &str, steps: &[&str], policy: &str) -> App {
    let file = format!("/out/{name}");
    let words = ["do", "append", &file, "x", "+"]
        .into_iter()
        .chain(steps.iter().copied());
    App::probe(name, words.collect::<Vec<_>>())
        .option(format!("--annotation=stage1/restart={policy}"))
}

/// How often such an app has started.
fn starts(fixture: &Fixture, name: &str) -> usize {
    let text = fs::read_to_string(fixture.out(name)).unwrap_or_default();
    text.len()
}

fn wait_for_starts(fixture: &Fixture, name: &str, count: usize) -> Result<()> {
    tests::wait::for_file(&fixture.out(name), Some(BOUND), |_| {
        starts(fixture, name) >= count
    })
}

/// Waits until such an app waits for its second start.
fn wait_until_waiting(fixture: &Fixture, uuid: &str, name: &str) -> Result<()> {
    wait_for_starts(fixture, name, 1)?;
    let file = status_file(fixture, uuid, name)?;
    tests::wait::for_file(&file, Some(BOUND), |file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.contains("restartAt")
    })
}

/// Stops a pod whose apps may be anywhere in their lives.
fn stop(fixture: &Fixture, uuid: &str) -> Result<()> {
    fixture.stage0(["stop", uuid])?.expect(0)?;
    Ok(())
}

fn waits_grow_and_the_pod_lives_on() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| {
            let failing = counting("failing", &["exit", "3"], "on-failure");
            let other = counting("other", &["until-term"], "no");
            let start = Instant::now();
            let pod = fixture.pod([failing.option(format!("--user={user}")), other]);
            let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
            wait_for_starts(fixture, "failing", 5)?;
            let waits = Duration::from_millis(100 + 200 + 400 + 800);
            ensure!(start.elapsed() >= waits, "{:?}", start.elapsed());
            assert_eq!(starts(fixture, "other"), 1);
            stop(fixture, &uuid)?;
            running.finish()?;
            let status = app_status(fixture, &uuid, "failing")?;
            ensure!(status["restarts"].as_u64() >= Some(4), "{status}");
            ensure!(status["backOff"].as_u64() >= Some(100_000_000), "{status}");
            Ok(())
        })?;
    }
    Ok(())
}

fn policies_say_after_which_end() -> Result<()> {
    with(|fixture| {
        let delay = "--annotation=stage1/restart-delay=10ms";
        let apps = [
            counting("always", &["exit", "0"], "always").option("--user=alice"),
            counting("well", &["exit", "0"], "on-failure"),
            // What systemd takes for a clean end is none when nobody asked for it.
            counting("killed", &["kill", "TERM"], "on-failure"),
        ];
        let pod = fixture.pod(apps.map(|app| app.option(delay)));
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        wait_for_starts(fixture, "always", 3)?;
        wait_for_starts(fixture, "killed", 3)?;
        wait_for_starts(fixture, "well", 1)?;
        stop(fixture, &uuid)?;
        running.finish()?;
        assert_eq!(starts(fixture, "well"), 1);
        let status = app_status(fixture, &uuid, "well")?;
        assert_eq!(
            (&status["state"], &status["restarts"]),
            (&"exited".into(), &0.into())
        );
        Ok(())
    })
}

fn a_stop_ends_the_wait_at_once() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| {
            let app = counting("a", &["exit", "3"], "always")
                .option(format!("--user={user}"))
                // Many programs are asked to end by a signal that does nothing by default.
                .option("--annotation=stage1/stop-signal=SIGWINCH")
                .option("--annotation=stage1/stop-timeout=1h")
                .option("--annotation=stage1/restart-delay=1h");
            let app = app.handler("post-stop", ["append", "/out/after", "x"]);
            let pod = fixture.pod([app]).option("--no-overlay");
            let (uuid, running) = pod.start_prepared(&[])?;
            wait_until_waiting(fixture, &uuid, "a")?;
            stop(fixture, &uuid)?;
            // The app's own end is still what is told.
            running.finish()?.expect(3)?;
            let status = app_status(fixture, &uuid, "a")?;
            assert_eq!(
                (&status["state"], &status["status"]),
                (&"failed".into(), &3.into())
            );
            assert_eq!((starts(fixture, "a"), starts(fixture, "after")), (1, 1));
            Ok(())
        })?;
    }
    Ok(())
}

fn who_waits_is_not_what_the_pod_ends_for() -> Result<()> {
    with(|fixture| {
        let waiting = counting("waiting", &["exit", "3"], "on-failure")
            .option("--annotation=stage1/restart-delay=1h");
        let bad = App::probe("bad", ["do", "wait-file", "/out/go", "+", "exit", "5"]);
        let pod = fixture.pod([waiting, bad]).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        wait_until_waiting(fixture, &uuid, "waiting")?;
        fs::write(fixture.out("go"), "")?;
        running.finish()?.expect(5)?;
        Ok(())
    })
}

fn a_start_that_fails_is_waited_after_too() -> Result<()> {
    with(|fixture| {
        let app = counting("main", &["exit", "0"], "on-failure").option("--user=alice");
        let before = ["do", "append", "/out/before", "x", "+", "exit", "7"];
        let start = Instant::now();
        let pod = fixture.pod([app.handler("pre-start", before)]);
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        wait_for_starts(fixture, "before", 4)?;
        let waits = Duration::from_millis(100 + 200 + 400);
        ensure!(start.elapsed() >= waits, "{:?}", start.elapsed());
        stop(fixture, &uuid)?;
        running.finish()?;
        assert_eq!(starts(fixture, "main"), 0);
        Ok(())
    })
}

fn of_an_app_that_comes_and_goes() -> Result<()> {
    with(|fixture| {
        let key = fixture.path("key");
        fs::write(&key, "sesame")?;
        let pod = fixture.sandbox(&["--no-overlay"])?;
        let read = ["read", "/run/credentials/a/key", "+", "exit", "3"];
        let app = counting("a", &read, "on-failure")
            .option("--user=alice")
            .option(format!(
                "--annotation=stage1/credential/key={}",
                key.display()
            ))
            .option("--annotation=stage1/restart-delay=1h");
        pod.add(&app)?.expect(0)?;
        // A command that starts the app is not kept waiting for its earlier end.
        for round in 1..=2 {
            pod.app("start", "a", &[])?.expect(0)?;
            wait_for_starts(fixture, "a", round)?;
            wait_until_waiting(fixture, &pod.uuid, "a")?;
            pod.app("stop", "a", &[])?.expect(0)?;
            let status = pod.status("a")?;
            assert_eq!(
                (&status["state"], &status["exit_code"]),
                (&"failed".into(), &3.into())
            );
            assert_eq!(starts(fixture, "a"), round);
        }
        let kept = pod.dir().join("stage1/rootfs/rkt/credentials/a");
        ensure!(kept.exists(), "{} is not where it was", kept.display());
        pod.app("rm", "a", &[])?.expect(0)?;
        ensure!(!kept.exists(), "{} is left", kept.display());
        pod.stop()?.expect(0)?;
        Ok(())
    })
}
