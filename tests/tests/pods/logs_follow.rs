//! `stage0 logs --follow`: what comes while a pod runs, and nothing but its end ends it.

use std::fs;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tests::fixture::{App, with};
use tests::process::Running;

tests::cases!("logs_follow":
    from_before_the_start_to_the_end,
    from_the_newest_lines,
    through_restarts,
    of_apps_that_come_later,
    a_reader_that_goes_away,
    after_the_supervisors_parent_was_killed,
);

fn finished(running: Running) -> Result<String> {
    Ok(running.finish()?.expect(0)?.stdout)
}

fn from_before_the_start_to_the_end() -> Result<()> {
    with(|fixture| {
        for option in ["--no-overlay=false", "--no-overlay"] {
            fs::remove_file(fixture.out("go")).ok();
            let words = "do print first + wait-file /out/go + lines 1000 + eprint last + exit 3";
            let app = App::probe("a", words.split(' '));
            let uuid = fixture.pod([app]).option(option).prepare()?;
            let early = fixture.start(["logs", "-f", &uuid])?;
            let pod = fixture.start(["run-prepared", &uuid])?;
            early.wait_output("first\n")?;
            let late = fixture.start(["logs", "-f", "--app=a", &uuid])?;
            late.wait_output("first\n")?;
            fs::write(fixture.out("go"), "")?;
            pod.finish()?.expect(3)?;
            let lines: Vec<_> = (1..=1000).map(|n| format!("line {n} of 1000\n")).collect();
            for following in [early, late] {
                let said = following.finish()?.expect(0)?;
                let all = said.stdout.clone() + &said.stderr;
                assert_eq!(
                    all.replace("last\n", ""),
                    format!("first\n{}", lines.concat())
                );
                assert!(all.contains("last\n"));
            }
        }
        Ok(())
    })
}

fn from_the_newest_lines() -> Result<()> {
    with(|fixture| {
        let words = "do lines 3 + wait-file /out/go + print last";
        let app = App::probe("a", words.split(' '));
        let (uuid, pod) = fixture.pod([app]).start_prepared(&[])?;
        // journald shows a line on the console before it is in the journal.
        let all = fixture.start(["logs", "-f", &uuid])?;
        all.wait_output("line 3 of 3\n")?;
        let newest = fixture.start(["logs", "-f", "--tail=2", &uuid])?;
        newest.wait_output("line 3 of 3\n")?;
        // Whether it has looked for the newest line by the time of the last one, nobody can tell.
        let none = fixture.start(["logs", "-f", "--tail=0", &uuid])?;
        let later = fixture.start(["logs", "-f", "--since=2100-01-01T00:00:00Z", &uuid])?;
        fs::write(fixture.out("go"), "")?;
        pod.finish()?.expect(0)?;
        assert_eq!(
            finished(all)?,
            "line 1 of 3\nline 2 of 3\nline 3 of 3\nlast\n"
        );
        assert_eq!(finished(newest)?, "line 2 of 3\nline 3 of 3\nlast\n");
        assert_eq!(finished(later)?, "");
        let none = finished(none)?;
        ensure!(["", "last\n"].contains(&none.as_str()), "{none}");
        Ok(())
    })
}

fn through_restarts() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["do", "print", "again", "+", "exit", "1"])
            .option("--annotation=stage1/restart=always")
            .option("--annotation=stage1/restart-delay=10ms");
        let (uuid, pod) = fixture.pod([app]).start_prepared(&[])?;
        let following = fixture.start(["logs", "-f", &uuid])?;
        following.wait_output("again\nagain\nagain\n")?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        pod.finish()?;
        let said = finished(following)?;
        assert_eq!(said.replace("again\n", ""), "");
        assert_eq!(fixture.text(["logs", &uuid])?, said.trim_end());
        Ok(())
    })
}

fn of_apps_that_come_later() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox(&[""; 0])?;
        let following = fixture.start(["logs", "-f", &sandbox.uuid])?;
        for name in ["one", "two"] {
            sandbox.run(&App::probe(name, ["print", "hello"]))?;
            following.wait_output(&format!("{name}: hello\n"))?;
        }
        sandbox.stop()?;
        assert_eq!(finished(following)?, "one: hello\ntwo: hello\n");
        Ok(())
    })
}

/// `stage0 logs -f | head` ends with head's end and the next line.
fn a_reader_that_goes_away() -> Result<()> {
    with(|fixture| {
        let words = "do print first + wait-file /out/go + lines 5 + until-term";
        let (uuid, pod) = fixture
            .pod([App::probe("a", words.split(' '))])
            .start_prepared(&[])?;
        let logs = fixture.command(["logs", "-f", &uuid]);
        let mut shell = std::process::Command::new("sh");
        // Nobody has the pipe open any more when it says so.
        let reader = "(head -n1; exec <&-; echo gone >&2)";
        let script = format!("{{ \"$@\"; echo \"ended $?\" >&2; }} | {reader}");
        shell.args(["-c", &script, "sh"]);
        shell.arg(logs.get_program()).args(logs.get_args());
        let piped = Running::start(shell, std::process::Stdio::null())?;
        piped.wait_errors("gone\n")?;
        fs::write(fixture.out("go"), "")?;
        let said = piped.finish()?.expect(0)?;
        assert_eq!(
            (said.stdout.as_str(), said.stderr.as_str()),
            ("first\n", "gone\nended 0\n")
        );
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

fn after_the_supervisors_parent_was_killed() -> Result<()> {
    with(|fixture| {
        let words = "do print first + until-term";
        let (uuid, pod) = fixture
            .pod([App::probe("a", words.split(' '))])
            .start_prepared(&[])?;
        let following = fixture.start(["logs", "-f", &uuid])?;
        following.wait_output("first\n")?;
        pod.signal(Signal::KILL)?;
        pod.finish()?.expect(137)?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        assert_eq!(finished(following)?, "first\ngot SIGTERM\n");
        Ok(())
    })
}
