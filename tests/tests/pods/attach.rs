//! Attaching to the streams of apps: pipes. Terminals are in `attach_terminal`.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::fixture::{App, Fixture, with};
use tests::image::file;
use tests::process::{BOUND, Running};

tests::cases!("attach":
    input_reaches_the_app_and_ends,
    both_outputs_are_told_apart,
    ends_with_the_attached_streams_though_others_go_on,
    what_there_is_is_listed_and_all_else_refused,
    streams_are_in_the_journal_too
    ; with users:
    input_reaches_the_app_and_ends,
    both_outputs_are_told_apart,
);

/// An app that runs a script of busybox's shell with these streams for others to attach to.
pub(crate) fn shell(mode: &str, streams: &[&str], script: &str) -> Result<App> {
    let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox")?;
    let words = ["exec", "/bin/busybox", "sh", "-c", script];
    let app = App::probe("a", words);
    let app = app.change(|image| image.with([file("bin/busybox", 0o755, busybox)]));
    Ok(streams
        .iter()
        .fold(app, |app, stream| app.option(format!("--{stream}={mode}"))))
}

/// The three streams.
pub(crate) const ALL: [&str; 3] = ["stdin", "stdout", "stderr"];

/// Runs a pod of an app that makes `/out/up` when it is there to be attached to.
pub(crate) fn with_pod(
    app: &App,
    test: impl FnOnce(&Fixture, &str, Running) -> Result<()>,
) -> Result<()> {
    with(|fixture| {
        let running = fixture.pod([app.clone()]).option("--no-overlay").start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        test(fixture, &uuid, running)
    })
}

/// Attaches with a pipe for standard input.
pub(crate) fn attach(fixture: &Fixture, uuid: &str, options: &[&str]) -> Result<Running> {
    let words = ["attach"].iter().chain(options).chain([&uuid]);
    Running::start(fixture.command(words), Stdio::piped())
}

fn input_reaches_the_app_and_ends() -> Result<()> {
    let script = ">/out/up; /bin/busybox cat; echo over";
    with_pod(&shell("stream", &ALL, script)?, |fixture, uuid, pod| {
        let mut first = attach(fixture, uuid, &[])?;
        let mut stdin = first.stdin().context("no stdin")?;
        // Neither line ended nor text.
        stdin.write_all(b"one\ntwo")?;
        first.wait_output("one\ntwo")?;
        let mut second = attach(fixture, uuid, &["--mode=stdin"])?;
        second.stdin().context("no stdin")?.write_all(b", three")?;
        // This one has ended its input, which was not the last: it is not the app's end.
        second.finish()?.expect(0)?;
        first.wait_output(", three")?;
        let mut third = attach(fixture, uuid, &["--mode=stdin,stdout"])?;
        let mut others = third.stdin().context("no stdin")?;
        others.write_all(b", four")?;
        first.wait_output(", four")?;
        // This one only goes away.
        drop(third);
        stdin.write_all(b", five.")?;
        first.wait_output(", five.")?;
        drop(stdin);
        let finished = first.finish()?.expect(0)?;
        assert_eq!(finished.stdout, "one\ntwo, three, four, five.over\n");
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

fn both_outputs_are_told_apart() -> Result<()> {
    let script = ">/out/up; for i in 1 2; do read x; echo out $x; echo err $x >&2; done; exit 3";
    with_pod(&shell("stream", &ALL, script)?, |fixture, uuid, pod| {
        // Each is seen to be attached, by an answer to what it sent, before the next one sends.
        let mut all = attach(fixture, uuid, &["--mode=auto"])?;
        let mut input = all.stdin().context("no stdin")?;
        input.write_all(b"one\n")?;
        all.wait_output("out one")?;
        all.wait_errors("err one")?;
        let mut errors = attach(fixture, uuid, &["--mode=stdin,stderr"])?;
        errors.stdin().context("no stdin")?.write_all(b"two\n")?;
        let all = all.finish()?.expect(0)?;
        assert_eq!(
            (all.stdout.as_str(), all.stderr.as_str()),
            ("out one\nout two\n", "err one\nerr two\n")
        );
        // Who attaches later gets what comes later.
        let errors = errors.finish()?.expect(0)?;
        assert_eq!(
            (errors.stdout.as_str(), errors.stderr.as_str()),
            ("", "err two\n")
        );
        pod.finish()?.expect(3)?;
        Ok(())
    })
}

fn ends_with_the_attached_streams_though_others_go_on() -> Result<()> {
    let script = ">/out/up; read x; echo got $x; exec 1>&-; read x; echo got $x >&2; exit 3";
    with_pod(&shell("stream", &ALL, script)?, |fixture, uuid, pod| {
        let mut first = attach(fixture, uuid, &["--mode=stdin,stdout"])?;
        let mut input = first.stdin().context("no stdin")?;
        input.write_all(b"one\n")?;
        assert_eq!(first.finish()?.expect(0)?.stdout, "got one\n");
        let mut second = attach(fixture, uuid, &["--mode=stdin,stderr"])?;
        second.stdin().context("no stdin")?.write_all(b"two\n")?;
        assert_eq!(second.finish()?.expect(0)?.stderr, "got two\n");
        pod.finish()?.expect(3)?;
        Ok(())
    })
}

fn what_there_is_is_listed_and_all_else_refused() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox::<&str>(&[])?;
        let hang = ["do", "write", "/out/up", "", "+", "hang"];
        sandbox.run(&App::probe("none", hang))?;
        sandbox.run(&App::probe("out", hang).option("--stdout=stream"))?;
        let short = App::probe("short", ["exit", "3"]).option("--stdin=stream");
        sandbox.run(&short)?;
        sandbox.ended("short")?;
        let attach = |options: &[&str]| {
            let words = ["attach"].iter().chain(options).copied();
            fixture.stage0(words.chain([sandbox.uuid.as_str()]))
        };
        assert_eq!(
            attach(&["--app=none", "--mode=list"])?.expect(0)?.stdout,
            ""
        );
        assert_eq!(
            attach(&["--app=out", "--mode=list"])?.expect(0)?.stdout,
            "stdout\n"
        );
        for (options, parts) in [
            (
                &["--app=none"][..],
                &["app none cannot be attached to", "stream or tty"][..],
            ),
            (
                &["--app=out", "--mode=stdin"],
                &["--stdin: app out", "it has stdout"],
            ),
            (
                &["--app=out", "--mode=tty-in"],
                &["--tty-in: app out", "it has stdout"],
            ),
            (&["--app=short"], &["app short does not run", "status 3"]),
            (&["--app=other"], &["--app=other: the pod has no such app"]),
            (&[], &["several apps", "none, out, short"]),
            (
                &["--app=out", "--mode=all"],
                &["--mode", "\"all\": must be list, auto"],
            ),
            (
                &["--app=out", "--detach-keys=x,"],
                &["--detach-keys=x,: there is no key \"\""],
            ),
        ] {
            attach(options)?.expect_refusal(parts)?;
        }
        sandbox.stop()?;
        Ok(())
    })
}

fn streams_are_in_the_journal_too() -> Result<()> {
    with(|fixture| {
        let words = [
            "do", "print", "said", "+", "eprint", "failed", "+", "print", "last",
        ];
        let app = |name: &str| {
            App::probe(name, words)
                .option("--stdout=stream")
                .option("--stderr=stream")
        };
        let quiet = app("quiet").option("--annotation=stage1/log-streams=false");
        let pod = fixture.pod([app("loud"), quiet]).option("--no-overlay");
        let uuid = pod.prepare()?;
        let finished = fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        for line in ["said", "failed", "last"] {
            ensure!(
                finished.stdout.contains(&format!("]: {line}")),
                "{finished}"
            );
        }
        ensure!(!finished.stdout.contains("quiet["), "{finished}");
        let entries = fixture.journal(&uuid, &["STAGE1_APP=loud", "SYSLOG_IDENTIFIER=loud"])?;
        let field = |entry: &tests::fixture::Entry, name: &str| {
            entry
                .get(name)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let said: Vec<_> = entries
            .iter()
            .map(|entry| (field(entry, "PRIORITY"), field(entry, "MESSAGE")))
            .collect();
        for (priority, line) in [("6", "said"), ("3", "failed"), ("6", "last")] {
            ensure!(said.contains(&(priority.into(), line.into())), "{said:?}");
        }
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(field(&entries[0], "STAGE1_POD_UUID"), uuid);
        let quiet = fixture.journal(&uuid, &["STAGE1_APP=quiet"])?;
        ensure!(quiet.is_empty(), "{quiet:?}");
        Ok(())
    })
}
