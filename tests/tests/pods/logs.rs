//! The journal of a pod: whose a line is stands in fields of its entry, and no line is lost.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use nix::libc;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use tests::fixture::{App, Entry, with};
use tests::process::BOUND;

use crate::common::process_of_pod;

tests::cases!("logs":
    entries_say_whose_they_are,
    entries_of_programs_that_are_gone,
    bursts_are_whole,
);

fn text<'a>(entry: &'a Entry, field: &str) -> Result<&'a str> {
    let value = entry.get(field).and_then(|value| value.as_str());
    value.with_context(|| format!("no {field} in {entry:?}"))
}

/// Each entry of an app: what it says.
fn said<'a>(entries: &'a [Entry], uuid: &str, app: &str) -> Result<BTreeSet<&'a str>> {
    let mut said = BTreeSet::new();
    for entry in entries {
        assert_eq!(text(entry, "STAGE1_POD_UUID")?, uuid);
        assert_eq!(text(entry, "STAGE1_APP")?, app);
        assert_eq!(text(entry, "SYSLOG_IDENTIFIER")?, app);
        // journald itself sees the unit while there is a process of it; `journalctl --unit=` knows both.
        let unit = format!("app-{app}.service");
        let units = ["_SYSTEMD_UNIT", "OBJECT_SYSTEMD_UNIT"].map(|field| text(entry, field).ok());
        ensure!(units.contains(&Some(unit.as_str())), "{entry:?}");
        said.insert(text(entry, "MESSAGE")?);
    }
    Ok(said)
}

fn entries_say_whose_they_are() -> Result<()> {
    with(|fixture| {
        let says = |words: &str| json!(["/probe", "print", words]);
        let talks = |name: &str, user: &str| {
            let words = ["do", "print", "main", "+", "eprint", "error", "+", "kill"];
            let handlers = json!([
                { "name": "pre-start", "exec": says("before") },
                { "name": "post-stop", "exec": says("after") },
            ]);
            App::probe(name, words.into_iter().chain(["KILL"]))
                .option(format!("--user={user}"))
                .change(|image| image.app("eventHandlers", handlers))
        };
        for (name, user) in [("of-root", "root"), ("of-alice", "alice")] {
            let pod = fixture.pod([talks(name, user)]).option("--no-overlay");
            let uuid = pod.prepare()?;
            let finished = fixture.stage0(["run-prepared", &uuid])?;
            let finished = finished.expect(128 + libc::SIGKILL)?;
            let entries = fixture.journal(&uuid, &[&format!("STAGE1_APP={name}")])?;
            assert_eq!(
                said(&entries, &uuid, name)?,
                BTreeSet::from(["before", "main", "error", "after"]),
                "{user}: {finished}"
            );
            for entry in &entries {
                let expected = match text(entry, "MESSAGE")? {
                    "error" => "3",
                    _ => "6",
                };
                assert_eq!(text(entry, "PRIORITY")?, expected, "{entry:?}");
            }
            let streams = fixture.stage0(["logs", &uuid])?.expect(0)?;
            let mut stdout: Vec<_> = streams.stdout.lines().collect();
            stdout.sort_unstable();
            assert_eq!(stdout, ["after", "before", "main"]);
            assert_eq!(streams.stderr, "error\n");
            let mut heard = finished.console(name);
            heard.sort_unstable();
            assert_eq!(heard, ["after", "before", "error", "main"], "{user}");
        }
        Ok(())
    })
}

/// journald looks at a program that has ended by then: it knows no more of it than the name of its stream (rkt#2630).
fn entries_of_programs_that_are_gone() -> Result<()> {
    with(|fixture| {
        let words =
            "do print first + write /out/ready x + wait-file /out/go + print last + eprint error";
        let handlers = json!([{ "name": "post-stop", "exec": ["/probe", "print", "after"] }]);
        let app = App::probe("a", words.split(' '))
            .option("--user=alice")
            .change(|image| image.app("eventHandlers", handlers));
        // Without it the pod would end, and wait for journald no longer than it must.
        let keeper = App::probe("keeper", ["until-term"]);
        let pod = fixture.pod([app, keeper]).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        // journald runs when it has shown a line.
        running.wait_output("first")?;
        let journald = process_of_pod(&uuid, "systemd-journal")?;
        kill_process(journald, Signal::STOP)?;
        tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
        std::fs::write(fixture.out("go"), "")?;
        let status = fixture.pod_dir(&uuid)?.join("stage1/rootfs/rkt/status/a");
        tests::wait::for_path(&status, Some(BOUND))?;
        kill_process(journald, Signal::CONT)?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = running.finish()?.expect(0)?;
        let entries = fixture.journal(&uuid, &["SYSLOG_IDENTIFIER=a"])?;
        assert_eq!(
            said(&entries, &uuid, "a")?,
            BTreeSet::from(["first", "last", "error", "after"]),
            "{finished}"
        );
        Ok(())
    })
}

fn bursts_are_whole() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["lines", "50000"]).option("--user=alice");
        let uuid = fixture.pod([app]).option("--no-overlay").prepare()?;
        let finished = fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        let entries = fixture.journal(&uuid, &["STAGE1_APP=a"])?;
        let written: Result<Vec<_>> = entries.iter().map(|e| text(e, "MESSAGE")).collect();
        let expected: Vec<_> = (1..=50_000)
            .map(|line| format!("line {line} of 50000"))
            .collect();
        for (place, lines) in [("journal", written?), ("console", finished.console("a"))] {
            ensure!(
                lines == expected,
                "{} lines in the {place}, the last is {:?}",
                lines.len(),
                lines.last()
            );
        }
        Ok(())
    })
}
