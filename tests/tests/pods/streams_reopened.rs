//! Standard output and error opened anew by their paths, as images have it in their configuration, by apps whose streams
//! lead to the log.

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};
use tests::fixture::{App, Fixture, with};
use tests::image::symlink;

use crate::attach::shell;
use crate::common::process_of_pod;

tests::cases!("streams_reopened":
    by_any_user_and_in_user_namespaces,
    by_apps_that_come_and_go,
    what_logs_is_killed,
);

/// What an app does whose image has links in the places of its log files; the last line has no end.
const SCRIPT: &str = "echo one; echo two >/dev/stdout; echo three >>/var/log/access; \
    echo four >/proc/self/fd/1; echo a >/dev/stderr; echo b >>/var/log/error; \
    echo c >/proc/self/fd/2; /bin/busybox sh -c 'echo five >/dev/stdout; echo d >/dev/stderr'; \
    printf six >/dev/stdout; exit 3";
const OUT: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const ERR: [&str; 4] = ["a", "b", "c", "d"];

fn app(script: &str) -> Result<App> {
    let links = [
        symlink("var/log/access", "/dev/stdout"),
        symlink("var/log/error", "/proc/self/fd/2"),
    ];
    Ok(shell("log", &["stdout", "stderr"], script)?.change(|image| image.with(links)))
}

/// What the journal has of the app at a priority, in order.
fn logged(fixture: &Fixture, uuid: &str, priority: u8) -> Result<Vec<String>> {
    let entries = fixture.journal(uuid, &["STAGE1_APP=a", &format!("PRIORITY={priority}")])?;
    let text = |entry: &tests::fixture::Entry| {
        let message = entry.get("MESSAGE").and_then(|message| message.as_str());
        message.map(str::to_owned).context("no message")
    };
    entries.iter().map(text).collect()
}

fn by_any_user_and_in_user_namespaces() -> Result<()> {
    with(|fixture| {
        let namespaces = [None, Some("--private-users")];
        let cases = namespaces.map(|option| ["root", "alice"].map(|user| (option, user)));
        for (option, user) in cases.into_iter().flatten() {
            let app = app(SCRIPT)?.option(format!("--user={user}"));
            let pod = fixture.pod([app]);
            let pod = option.into_iter().fold(pod, |pod, o| pod.option(o));
            let (uuid, running) = pod.start_prepared(&[])?;
            let finished = running.finish()?.expect(3)?;
            assert_eq!(logged(fixture, &uuid, 6)?, OUT, "{option:?}, {user}");
            assert_eq!(logged(fixture, &uuid, 3)?, ERR, "{option:?}, {user}");
            let mut console = finished.console("a");
            console.sort_unstable();
            let mut all = [&OUT[..], &ERR[..]].concat();
            all.sort_unstable();
            assert_eq!(console, all, "{option:?}, {user}");
            let shown = fixture.stage0(["logs", &uuid])?.expect(0)?;
            assert_eq!(shown.stdout.trim_end(), OUT.join("\n"));
            assert_eq!(shown.stderr.trim_end(), ERR.join("\n"));
            fixture.text(["rm", &uuid])?;
        }
        Ok(())
    })
}

fn by_apps_that_come_and_go() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox::<&str>(&[])?;
        for _ in 0..2 {
            sandbox.run(&app(SCRIPT)?.option("--user=alice"))?;
            assert_eq!(sandbox.ended("a")?["status"], 3);
            sandbox.app("rm", "a", &[])?.expect(0)?;
        }
        let uuid = sandbox.uuid.clone();
        sandbox.stop()?.expect(0)?;
        assert_eq!(logged(fixture, &uuid, 6)?, [OUT, OUT].concat());
        assert_eq!(logged(fixture, &uuid, 3)?, [ERR, ERR].concat());
        Ok(())
    })
}

fn what_logs_is_killed() -> Result<()> {
    with(|fixture| {
        let script = "echo one; /probe wait-file /out/go; echo two >/dev/stdout; \
            /probe wait-file /out/end; exit 3";
        let pod = fixture.pod([app(script)?]);
        let (uuid, running) = pod.start_prepared(&[])?;
        // What is shown is in the journal, and not with what is killed.
        running.wait_output("one")?;
        kill_process(process_of_pod(&uuid, "iottymux")?, Signal::KILL)?;
        std::fs::write(fixture.out("go"), "")?;
        running.wait_output("two")?;
        std::fs::write(fixture.out("end"), "")?;
        let finished = running.finish()?.expect(3)?;
        let said = logged(fixture, &uuid, 6)?;
        ensure!(said == ["one", "two"], "{said:?}: {finished}");
        Ok(())
    })
}
