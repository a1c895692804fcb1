//! Apps that say when they are ready (sd_notify(3)).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, with};
use tests::process::BOUND;
use tests::wait;

use crate::common::status;

tests::cases!("readiness":
    the_pod_is_ready_when_its_apps_are,
    a_child_can_be_the_main_process,
    silence_ends_the_app,
    an_end_before_it_is_a_failure,
);

/// An app whose image says that it notifies.
fn notifying(name: &str, steps: &str) -> App {
    let annotation = "appc.io/executor/supports-systemd-notify";
    App::probe(name, steps.split(' ')).change(|image| image.annotation(annotation, "true"))
}

fn stage1_file(fixture: &Fixture, uuid: &str, path: &str) -> Result<PathBuf> {
    Ok(fixture.pod_dir(uuid)?.join("stage1/rootfs/rkt").join(path))
}

fn status_json(fixture: &Fixture, uuid: &str, app: &str) -> Result<Value> {
    let path = stage1_file(fixture, uuid, &format!("status/{app}.json"))?;
    let json = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(serde_json::from_slice(&json)?)
}

/// The app says it itself, or a child does that ends at once.
fn the_pod_is_ready_when_its_apps_are() -> Result<()> {
    for (user, says) in [
        ("root", "notify READY=1"),
        ("alice", "notify READY=1"),
        ("alice", "spawn notify READY=1"),
    ] {
        with(|fixture| ready(fixture, user, says))?;
    }
    Ok(())
}

fn ready(fixture: &Fixture, user: &str, says: &str) -> Result<()> {
    let steps = format!("do write /out/started x + wait-file /out/go + {says} + until-term");
    let server = notifying("server", &steps).option(format!("--user={user}"));
    let other = App::probe("other", ["until-term"]);
    let (uuid, running) = fixture
        .pod([server, other])
        .option("--no-overlay")
        .start_prepared(&[])?;
    wait::for_path(&fixture.out("started"), Some(BOUND))?;
    let link = stage1_file(fixture, &uuid, "supervisor-status")?;
    ensure!(fs::read_link(&link).is_err(), "{user}: ready too early");
    assert_eq!(status(fixture, &uuid)?["ready"], "false");
    assert_eq!(
        status_json(fixture, &uuid, "server")?["readyAt"],
        Value::Null
    );
    fs::write(fixture.out("go"), "")?;
    wait::for_path(&link, Some(BOUND)).with_context(|| format!("{user}: {says}"))?;
    assert_eq!(status(fixture, &uuid)?["ready"], "true");
    ensure!(status_json(fixture, &uuid, "server")?["readyAt"].is_u64());
    fixture.stage0(["stop", &uuid])?.expect(0)?;
    running.finish()?.expect(0)?;
    Ok(())
}

/// As of a server that goes into the background: the unit lives on with it, and its status is that of the app.
fn a_child_can_be_the_main_process() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| {
            let child = "notify MAINPID=@PID@ , notify READY=1 , write /out/told x";
            let rest = "until-orphan , write /out/alone x , wait-file /out/go , exit 7";
            let steps = format!("do spawn {child} , {rest} + wait-file /out/told + exit 3");
            let app = notifying("a", &steps).option(format!("--user={user}"));
            let (uuid, running) = fixture
                .pod([app])
                .option("--no-overlay")
                .start_prepared(&[])?;
            // From its start on the pod's directory stays where it is.
            wait::for_path(&fixture.out("alone"), Some(BOUND))?;
            let link = stage1_file(fixture, &uuid, "supervisor-status")?;
            wait::for_path(&link, Some(BOUND))?;
            assert_eq!(status(fixture, &uuid)?["state"], "running");
            let enter = ["enter", &uuid, "/probe", "exit", "5"];
            fixture.stage0(enter)?.expect(5)?;
            fs::write(fixture.out("go"), "")?;
            running.finish()?.expect(7)?;
            Ok(())
        })?;
    }
    Ok(())
}

/// The limit is the app's: its handler before may take longer.
fn silence_ends_the_app() -> Result<()> {
    with(|fixture| {
        let handler = "/probe do spin 5500 + write /out/handled x";
        let handler: Vec<_> = handler.split(' ').collect();
        let handler = json!([{ "name": "pre-start", "exec": handler }]);
        let app = notifying("a", "hang")
            .option("--annotation=stage1/start-timeout=5s")
            .change(|image| image.app("eventHandlers", handler));
        fixture
            .pod([app])
            .option("--no-overlay")
            .run()?
            .expect(143)?;
        ensure!(fixture.out("handled").exists(), "the handler was cut short");
        let status = status_json(fixture, &fixture.only_pod()?, "a")?;
        assert_eq!(status["result"], "timeout");
        assert_eq!(status["readyAt"], Value::Null);
        Ok(())
    })
}

fn an_end_before_it_is_a_failure() -> Result<()> {
    with(|fixture| {
        let app = notifying("a", "exit 0");
        let finished = fixture.pod([app]).option("--no-overlay").run()?;
        let output = finished.expect(254)?.stdout;
        let remark = "app a: it exited with status 0, which is a failure here: protocol";
        ensure!(output.contains(remark), "{output}");
        let status = status_json(fixture, &fixture.only_pod()?, "a")?;
        assert_eq!(status["result"], "protocol");
        assert_eq!(status["exitCode"], 0);
        Ok(())
    })
}
