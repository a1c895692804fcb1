//! Event handlers: before an app starts and after it has ended, as the app itself would run them.

use std::fs;

use anyhow::{Result, ensure};
use nix::libc;
use tests::fixture::{App, Fixture, with};

tests::cases!("hooks": post_stop_runs_before_the_pod_ends; both ways:
    run_before_and_after,
    run_as_the_app,
    a_failing_pre_start_stops_the_start,
    post_stop_runs_when_main_was_killed,
    a_failing_post_stop_changes_no_status,
);

/// The probe's words for noting `text` in the file of what happened.
fn note(text: &str) -> Vec<String> {
    ["append", "/out/order", text].map(str::to_owned).into()
}

fn handlers(app: App, pre_start: Option<Vec<String>>, post_stop: Option<Vec<String>>) -> App {
    let handlers = [("pre-start", pre_start), ("post-stop", post_stop)];
    let handlers = handlers
        .into_iter()
        .filter_map(|(name, words)| Some((name, words?)));
    handlers.fold(app, |app, (name, words)| app.handler(name, words))
}

fn order(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.out("order")).unwrap_or_default()
}

fn run_before_and_after() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| {
            let app = App::probe("a", note("main,")).option(format!("--user={user}"));
            let app = handlers(app, Some(note("before,")), Some(note("after")));
            let finished = fixture.pod([app]).run()?.expect(0)?;
            assert_eq!(order(fixture), "before,main,after", "{user}");
            ensure!(!finished.stderr.contains("handler"), "{finished}");
            Ok(())
        })?;
    }
    Ok(())
}

fn run_as_the_app() -> Result<()> {
    with(|fixture| {
        let words = ["see", "--out", "/out/hook.json"]
            .map(str::to_owned)
            .to_vec();
        let app = App::seeing("a", [""; 0])
            .option("--user=alice")
            .option("--environment=LIKE=main");
        fixture
            .pod([handlers(app, Some(words), None)])
            .run()?
            .expect(0)?;
        let (main, hook) = (fixture.seen("a")?, fixture.seen("hook")?);
        hook.expect_like(&main);
        Ok(())
    })
}

fn a_failing_pre_start_stops_the_start() -> Result<()> {
    with(|fixture| {
        let fails = ["exit", "7"].map(str::to_owned).to_vec();
        let app = handlers(
            App::probe("a", note("main")),
            Some(fails),
            Some(note("after")),
        );
        let finished = fixture.pod([app]).run()?;
        ensure!(finished.status.code() != Some(0), "{finished}");
        assert_eq!(order(fixture), "after");
        Ok(())
    })
}

fn post_stop_runs_when_main_was_killed() -> Result<()> {
    with(|fixture| {
        let app = handlers(App::probe("a", ["kill", "KILL"]), None, Some(note("after")));
        fixture.pod([app]).run()?.expect(128 + libc::SIGKILL)?;
        assert_eq!(order(fixture), "after");
        Ok(())
    })
}

fn a_failing_post_stop_changes_no_status() -> Result<()> {
    with(|fixture| {
        let fails = || Some(["exit", "9"].map(str::to_owned).to_vec());
        for code in [0, 3] {
            let app = handlers(App::probe("a", ["exit", &code.to_string()]), None, fails());
            fixture.pod([app]).run()?.expect(code)?;
        }
        Ok(())
    })
}

fn post_stop_runs_before_the_pod_ends() -> Result<()> {
    with(|fixture| {
        // One that has not begun to start has nothing to run after.
        let bad = App::probe("b", ["do", "wait-file", "/out/up", "+", "exit", "5"]);
        let app = App::probe("a", ["do", "write", "/out/up", "", "+", "hang"]);
        let app = handlers(app, None, Some(note("after")));
        fixture.pod([app, bad]).run()?.expect(5)?;
        assert_eq!(order(fixture), "after");
        Ok(())
    })
}
