//! When pods end by themselves, and how apps are asked to end, as annotations say.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::fixture::{App, with};
use tests::process::BOUND;

use crate::common::{app_status, status_file};

tests::cases!("policies":
    until_all_outlives_a_failure,
    on_any_ends_with_a_good_end,
    stop_signals_of_the_app_and_of_its_image,
    a_stop_signal_that_kills_is_a_good_end_when_asked_for,
    who_does_not_stop_in_time_is_killed,
    who_has_little_time_to_stop_is_killed_soon,
    ends_are_noted_however_short_a_stop_is_to_be,
);

const UNTIL_TERM: [&str; 5] = ["do", "write", "/out/ready", "", "+"];

/// An app that says that it is ready, and goes on with `steps`.
fn ready(name: &str, steps: &[&str]) -> App {
    App::probe(name, UNTIL_TERM.iter().chain(steps).copied())
}

fn until_all_outlives_a_failure() -> Result<()> {
    with(|fixture| {
        let bad = App::probe("bad", ["exit", "5"]);
        let steps = ["wait-file", "/out/go", "+", "write", "/out/done", ""];
        let pod = fixture
            .pod([bad, ready("good", &steps)])
            .option("--no-overlay");
        let pod = pod.option("--pod-annotation=stage1/exit-policy=until-all");
        let (uuid, running) = pod.start_prepared(&[])?;
        tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
        let file = status_file(fixture, &uuid, "bad")?.with_extension("");
        tests::wait::for_path(&file, Some(BOUND))?;
        fs::write(fixture.out("go"), "")?;
        running.finish()?.expect(5)?;
        ensure!(fixture.out("done").exists(), "the other app was stopped");
        Ok(())
    })
}

fn on_any_ends_with_a_good_end() -> Result<()> {
    with(|fixture| {
        let good = App::probe("good", ["do", "wait-file", "/out/ready", "+", "exit", "0"]);
        let other = ready("other", &["until-term", "+", "write", "/out/stopped", ""]);
        let pod = fixture.pod([good, other.option("--user=alice")]);
        let pod = pod.option("--pod-annotation=stage1/exit-policy=on-any");
        pod.run()?.expect(0)?;
        ensure!(
            fixture.out("stopped").exists(),
            "the other app could not finish"
        );
        Ok(())
    })
}

fn stop_signals_of_the_app_and_of_its_image() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| {
            let images = ready("image", &["until-term"])
                .change(|image| image.annotation("appc.io/docker/stopsignal", "1"));
            let own = App::probe("own", ["do", "write", "/out/own", "", "+", "until-term"])
                .change(|image| image.annotation("stage1/stop-signal", "HUP"))
                .option("--annotation=stage1/stop-signal=SIGINT");
            let user = format!("--user={user}");
            let apps = [images, own].map(|app| app.option(user.clone()));
            let (uuid, running) = fixture.pod(apps).start_prepared(&[])?;
            for name in ["ready", "own"] {
                tests::wait::for_path(&fixture.out(name), Some(BOUND))?;
            }
            fixture.stage0(["stop", &uuid])?.expect(0)?;
            let finished = running.finish()?.expect(0)?;
            assert_eq!(finished.console("image"), ["got SIGHUP"]);
            assert_eq!(finished.console("own"), ["got SIGINT"]);
            Ok(())
        })?;
    }
    Ok(())
}

fn a_stop_signal_that_kills_is_a_good_end_when_asked_for() -> Result<()> {
    let signal = "--annotation=stage1/stop-signal=SIGUSR1";
    with(|fixture| {
        let app = ready("a", &["hang"]).option(signal);
        let pod = fixture.pod([app]).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        let status = app_status(fixture, &uuid, "a")?;
        assert_eq!(
            (&status["state"], &status["status"]),
            (&"exited".into(), &138.into())
        );
        Ok(())
    })?;
    with(|fixture| {
        let app = App::probe("a", ["kill", "USR1"]).option(signal);
        fixture.pod([app]).run()?.expect(138)?;
        Ok(())
    })
}

fn who_does_not_stop_in_time_is_killed() -> Result<()> {
    with(|fixture| {
        let app = |user: &str| {
            let words = format!("do ignore-term + write /out/{user}-ready x + hang");
            App::probe(user, words.split(' '))
                .option(format!("--user={user}"))
                // The handler has the same time.
                .option("--annotation=stage1/stop-timeout=10s")
                .handler("post-stop", ["append", &format!("/out/{user}-after"), "x"])
        };
        let users = ["root", "alice"];
        let pod = fixture.pod(users.map(app)).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        for user in users {
            tests::wait::for_path(&fixture.out(&format!("{user}-ready")), Some(BOUND))?;
        }
        let asked = Instant::now();
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(137)?;
        ensure!(asked.elapsed() >= Duration::from_secs(10), "too soon");
        for user in users {
            let after = fs::read_to_string(fixture.out(&format!("{user}-after")))?;
            assert_eq!(after, "x", "{user}");
            let status = app_status(fixture, &uuid, user)?;
            let end = (&status["signal"], &status["result"]);
            assert_eq!(end, (&"SIGKILL".into(), &"timeout".into()), "{user}");
        }
        Ok(())
    })
}

fn who_has_little_time_to_stop_is_killed_soon() -> Result<()> {
    with(|fixture| {
        let app = |name: &str, time: &str, steps: &str| {
            let words = format!("do write /out/{name}-ready x + {steps}");
            let app = App::probe(name, words.split(' '));
            app.option(format!("--annotation=stage1/stop-timeout={time}"))
        };
        let pod = fixture.pod([
            app("stubborn", "200ms", "ignore-term + hang")
                .option("--user=alice")
                // It may take longer than the app.
                .handler("post-stop", "do burn 500 + write /out/after x".split(' ')),
            app("polite", "9s", "until-term"),
            // It does not hear the signal unless it is let go on.
            app("stopped", "9s", "kill STOP + until-term"),
        ]);
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        for name in ["stubborn", "polite", "stopped"] {
            tests::wait::for_path(&fixture.out(&format!("{name}-ready")), Some(BOUND))?;
        }
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(137)?;
        assert_eq!(fs::read_to_string(fixture.out("after"))?, "x");
        for (name, signal, result) in [
            ("stubborn", "SIGKILL".into(), "timeout"),
            ("polite", Value::Null, "success"),
            ("stopped", Value::Null, "success"),
        ] {
            let status = app_status(fixture, &uuid, name)?;
            let end = (&status["signal"], &status["result"]);
            assert_eq!(end, (&signal, &result.into()), "{name}");
            // By stage1, that is, and not by systemd, which has more time.
            assert_eq!(status["killedAsLate"] == true, name == "stubborn");
        }
        Ok(())
    })
}

/// The limit of the stop is not that of the note, which takes a while with so little of a processor.
fn ends_are_noted_however_short_a_stop_is_to_be() -> Result<()> {
    with(|fixture| {
        let names: Vec<String> = (0..12).map(|number| format!("a{number}")).collect();
        let app = |name: &String| {
            App::probe(name, ["exit", "3"])
                .option("--annotation=stage1/stop-timeout=1ms")
                .option("--cpu=20m")
        };
        let pod = fixture.pod(names.iter().map(app)).option("--no-overlay");
        let pod = pod.option("--pod-annotation=stage1/exit-policy=until-all");
        pod.run()?.expect(3)?;
        let uuid = fixture.only_pod()?;
        for name in &names {
            let status = app_status(fixture, &uuid, name)?;
            let end = (&status["status"], &status["result"]);
            assert_eq!(end, (&3.into(), &"exit-code".into()), "{name}");
        }
        Ok(())
    })
}
