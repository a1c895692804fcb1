//! The end of apps and pods: statuses, order, policy.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fixture::{App, Fixture, with};

use crate::common::{app_status, status_file};

tests::cases!("exit":
    status_of_the_app,
    status_is_zero_when_all_end_well,
    death_by_signal_is_128_and_the_signal,
    pod_ends_when_all_apps_have_ended,
    failure_stops_the_others_in_order,
    first_failure_is_the_pods,
    last_words_are_heard,
    children_of_an_app_go_with_it,
    status_files_are_complete,
);

fn exits(name: &str, status: u8) -> App {
    App::probe(name, ["exit", &status.to_string()])
}

/// The pod's status lines.
fn status(fixture: &Fixture) -> Result<Vec<String>> {
    let uuid = fixture.only_pod()?;
    Ok(fixture
        .stage0(["status", &uuid])?
        .expect(0)?
        .stdout
        .lines()
        .map(str::to_owned)
        .collect())
}

fn has(lines: &[String], line: &str) -> Result<()> {
    ensure!(
        lines.iter().any(|other| other == line),
        "no {line} in {lines:?}"
    );
    Ok(())
}

fn status_of_the_app() -> Result<()> {
    with(|fixture| {
        for code in [1, 2, 77, 203, 255] {
            fixture.pod([exits("a", code)]).run()?.expect(code.into())?;
        }
        Ok(())
    })
}

fn status_is_zero_when_all_end_well() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([exits("a", 0), exits("b", 0), exits("c", 0)])
            .run()?
            .expect(0)?;
        let lines = status(fixture)?;
        for app in ["a", "b", "c"] {
            has(&lines, &format!("app-{app}=0"))?;
        }
        has(&lines, "state=exited")
    })
}

fn death_by_signal_is_128_and_the_signal() -> Result<()> {
    for (name, code) in [
        ("KILL", 137),
        ("SEGV", 139),
        ("USR1", 138),
        ("TERM", 143),
        ("PIPE", 141),
    ] {
        with(|fixture| {
            fixture
                .pod([App::probe("a", ["kill", name])])
                .run()?
                .expect(code)?;
            has(&status(fixture)?, &format!("app-a={code}"))
        })?;
    }
    Ok(())
}

fn pod_ends_when_all_apps_have_ended() -> Result<()> {
    with(|fixture| {
        let waiting = App::probe(
            "late",
            [
                "do",
                "write",
                "/out/ready",
                "",
                "+",
                "wait-file",
                "/out/go",
                "+",
                "write",
                "/out/done",
                "",
            ],
        );
        let running = fixture.pod([exits("early", 0), waiting]).start()?;
        tests::wait::for_path(&fixture.out("ready"), Some(tests::process::BOUND))?;
        fs::write(fixture.out("go"), "")?;
        running.finish()?.expect(0)?;
        ensure!(
            fixture.out("done").exists(),
            "the pod ended before its second app"
        );
        Ok(())
    })
}

/// An app that fails as soon as the other one is ready.
fn fails(name: &str, code: &str) -> App {
    App::probe(name, ["do", "wait-file", "/out/ready", "+", "exit", code])
}

fn failure_stops_the_others_in_order() -> Result<()> {
    with(|fixture| {
        let other = App::probe(
            "other",
            [
                "do",
                "write",
                "/out/ready",
                "",
                "+",
                "until-term",
                "+",
                "write",
                "/out/finished",
                "yes",
            ],
        );
        let finished = fixture.pod([fails("bad", "5"), other]).run()?.expect(5)?;
        ensure!(
            fixture.out("finished").exists(),
            "the other app could not finish: {finished}"
        );
        let lines = status(fixture)?;
        has(&lines, "app-bad=5")?;
        has(&lines, "app-other=0")
    })
}

fn first_failure_is_the_pods() -> Result<()> {
    with(|fixture| {
        let other = App::probe(
            "other",
            [
                "do",
                "write",
                "/out/ready",
                "",
                "+",
                "until-term",
                "+",
                "exit",
                "9",
            ],
        );
        fixture.pod([other, fails("bad", "5")]).run()?.expect(5)?;
        let lines = status(fixture)?;
        has(&lines, "app-bad=5")?;
        has(&lines, "app-other=9")
    })
}

fn last_words_are_heard() -> Result<()> {
    with(|fixture| {
        let other = App::probe(
            "other",
            [
                "do",
                "write",
                "/out/ready",
                "",
                "+",
                "until-term",
                "+",
                "lines",
                "20",
                "+",
                "print",
                "last words",
            ],
        );
        let bad = App::probe(
            "bad",
            [
                "do",
                "wait-file",
                "/out/ready",
                "+",
                "print",
                "bad's last words",
                "+",
                "exit",
                "5",
            ],
        );
        let finished = fixture.pod([bad, other]).run()?.expect(5)?;
        assert_eq!(finished.console("bad"), ["bad's last words"]);
        assert_eq!(
            finished.console("other").last(),
            Some(&"last words"),
            "{finished}"
        );
        assert_eq!(finished.console("other").len(), 22, "{finished}");
        Ok(())
    })
}

fn children_of_an_app_go_with_it() -> Result<()> {
    with(|fixture| {
        let app = App::probe(
            "a",
            [
                "do",
                "spawn",
                "write",
                "/out/child",
                "",
                ",",
                "hang",
                "+",
                "wait-file",
                "/out/child",
                "+",
                "exit",
                "3",
            ],
        );
        fixture.pod([app]).run()?.expect(3)?;
        ensure!(
            fixture
                .leftovers()
                .iter()
                .all(|line| !line.starts_with("process")),
            "{:?}",
            fixture.leftovers()
        );
        Ok(())
    })
}

fn status_files_are_complete() -> Result<()> {
    with(|fixture| {
        let killed = App::probe(
            "killed",
            ["do", "wait-file", "/out/ready", "+", "kill", "KILL"],
        );
        let good = App::probe("good", ["do", "write", "/out/ready", "", "+", "until-term"]);
        fixture
            .pod([killed, good])
            .option("--no-overlay")
            .run()?
            .expect(137)?;
        let app = |name: &str| -> Result<(String, Value)> {
            let uuid = fixture.only_pod()?;
            let file = status_file(fixture, &uuid, name)?.with_extension("");
            let text = fs::read_to_string(file).context("read the status")?;
            Ok((text, app_status(fixture, &uuid, name)?))
        };
        let (text, json) = app("killed")?;
        assert_eq!(text.trim_end(), "137");
        assert_eq!(json["signal"], "SIGKILL", "{json}");
        let (text, json) = app("good")?;
        assert_eq!(text.trim_end(), "0");
        assert_eq!(json["exitCode"], 0, "{json}");
        Ok(())
    })
}
