//! Entering apps: what comes along, what is told, and when.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::probe::{Outcome, Seen};
use tests::process::{BOUND, Finished, run};

tests::cases!("enter":
    nothing_of_the_host_comes_along,
    statuses_and_errors,
    ends_with_its_app,
    the_only_app_and_its_shell,
    while_the_pod_starts,
);

/// A pod of one app that hangs.
pub(crate) fn with_pod(app: App, test: impl Fn(&Fixture, &str) -> Result<()>) -> Result<()> {
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

pub(crate) fn hanging() -> App {
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

fn ends_with_its_app() -> Result<()> {
    with(|fixture| {
        let steps = ["do", "write", "/out/up", "", "+", "wait-file", "/out/go"];
        let running = fixture
            .pod([App::probe("a", steps)])
            .option("--no-overlay")
            .start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        let words = ["enter", "--app=a", &uuid, "/probe"];
        let hangs = ["do", "ignore-term", "+", "print", "ready", "+", "hang"];
        let entered = fixture.start([&words[..], &hangs[..]].concat())?;
        entered.wait_output("ready")?;
        fs::write(fixture.out("go"), "")?;
        entered.finish()?.expect(137)?;
        // The app has ended well, whatever became of what else was in its cgroup.
        running.finish()?.expect(0)?;
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
        // Nothing tells of a pod that goes from one place to the next and then gets its first process.
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
        let words = [
            "enter",
            "--app=a",
            &uuid,
            "/probe",
            "read",
            "/proc/self/cgroup",
        ];
        let entering = fixture.start(words)?;
        fs::write(fixture.out("go"), "")?;
        let finished = entering.finish()?.expect(0)?;
        ensure!(finished.stdout.contains("app-a.service"), "{finished}");
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}
