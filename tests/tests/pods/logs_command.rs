//! `stage0 logs`: what there is of pods that have ended, in each form.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, with};
use tests::process::Running;

tests::cases!("logs_command":
    lines_of_one_app,
    lines_of_several_apps,
    newest_and_latest,
    bytes_are_those_of_the_app,
    many_lines,
    of_an_app_that_was_removed,
    of_pods_that_have_none,
    the_oldest_go_at_the_bound,
);

/// Runs a pod to its end and gives its UUID.
fn ended(fixture: &Fixture, apps: Vec<App>, options: &[&str]) -> Result<String> {
    let pod = options
        .iter()
        .fold(fixture.pod(apps), |pod, o| pod.option(*o));
    let uuid = pod.prepare()?;
    fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
    Ok(uuid)
}

/// What `stage0 logs --format=json` gives.
fn objects(fixture: &Fixture, words: &[&str]) -> Result<Vec<Value>> {
    let words = ["logs", "--format=json"].iter().chain(words);
    let finished = fixture.stage0(words)?.expect(0)?;
    let lines = finished.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("parse {line}")))
        .collect()
}

fn field<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

/// With overlay, without, and with the tree that the pod used not mounted, as after a reboot.
fn lines_of_one_app() -> Result<()> {
    with(|fixture| {
        for options in [&["--no-overlay"][..], &[]] {
            let app = App::probe("a", "do print one + print two + exit 0".split(' '));
            let uuid = ended(fixture, vec![app], options)?;
            let logs = |words: &[&str]| fixture.text(["logs"].iter().chain(words));
            assert_eq!(logs(&[&uuid])?, "one\ntwo");
            assert_eq!(logs(&["--app=a", &uuid[..8]])?, "one\ntwo");
            let timed = logs(&["--timestamps", &uuid])?;
            for (line, text) in timed.lines().zip(["one", "two"]) {
                let (time, said) = line.split_once(' ').context("no time")?;
                assert_eq!(said, text);
                ensure!(time.len() == 27 && time.ends_with('Z'), "{time}");
            }
            let said = objects(fixture, &[&uuid])?;
            let one = json!({ "time": said[0]["time"], "app": "a", "stream": "stdout",
                "pid": said[0]["pid"], "message": "one" });
            assert_eq!(said[0], one);
            fixture
                .stage0(["logs", "--app=b", &uuid])?
                .expect_refusal(&[
                    &format!("logs of pod {uuid}"),
                    "--app=b: the pod has no such app, but a",
                ])?;
            if options.is_empty() {
                let root = fixture.pod_dir(&uuid)?.join("stage1/rootfs");
                let mut unmount = Command::new("umount");
                unmount.arg("--recursive").arg(&root);
                tests::process::run(unmount)?.expect(0)?;
                assert_eq!(logs(&[&uuid])?, "one\ntwo");
            }
        }
        Ok(())
    })
}

/// The lines that `stage0 logs` shows, sorted: the order of streams that were open at once is journald's.
fn sorted(fixture: &Fixture, words: &[&str]) -> Result<Vec<String>> {
    let said = fixture.text(["logs"].iter().chain(words))?;
    let mut lines: Vec<String> = said.lines().map(Into::into).collect();
    lines.sort_unstable();
    Ok(lines)
}

fn lines_of_several_apps() -> Result<()> {
    with(|fixture| {
        let says = |name: &str, steps: &str| {
            App::probe(name, format!("do {steps} + exit 0").split(' '))
                .handler("post-stop", ["print", "after"])
        };
        let apps = vec![says("a", "print of-a"), says("b", "print of-b")];
        let uuid = ended(fixture, apps, &[])?;
        let all = sorted(fixture, &[&uuid])?;
        assert_eq!(all, ["a: after", "a: of-a", "b: after", "b: of-b"]);
        assert_eq!(sorted(fixture, &["--app", "b", &uuid])?, ["after", "of-b"]);
        Ok(())
    })
}

fn newest_and_latest() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["lines", "5"]);
        let uuid = ended(fixture, vec![app], &[])?;
        let all = objects(fixture, &[&uuid])?;
        assert_eq!(all.len(), 5);
        let messages = |words: &[&str]| -> Result<Vec<String>> {
            let said = objects(fixture, words)?;
            Ok(said.iter().map(|o| field(o, "message").into()).collect())
        };
        let expected = |from: usize| -> Vec<String> {
            (from..=5).map(|line| format!("line {line} of 5")).collect()
        };
        for (tail, from) in [
            ("0", 6),
            ("1", 5),
            ("2", 4),
            ("5", 1),
            ("6", 1),
            ("99999", 1),
        ] {
            assert_eq!(
                messages(&["--tail", tail, &uuid])?,
                expected(from),
                "{tail}"
            );
        }
        // Lines may have come in the same microsecond.
        let third = field(&all[2], "time");
        let first = all.iter().position(|o| field(o, "time") == third);
        let from = first.context("third line")? + 1;
        let since = format!("--since={third}");
        assert_eq!(messages(&[&since, &uuid])?, expected(from));
        assert_eq!(messages(&[&since, "--tail=1", &uuid])?, expected(5));
        assert_eq!(messages(&[&since, "--tail=9", &uuid])?, expected(from));
        assert_eq!(messages(&["--since=1h", &uuid])?, expected(1));
        assert_eq!(messages(&["--since=@0", &uuid])?, expected(1));
        assert_eq!(
            messages(&["--since=2100-01-01T00:00:00Z", &uuid])?,
            expected(6)
        );
        for wrong in ["--since=then", "--tail=-1", "--tail=x"] {
            fixture
                .stage0(["logs", wrong, &uuid])?
                .expect_refusal(&[])?;
        }
        Ok(())
    })
}

/// Runs a command of stage0 with its stdout in a file, whose content may be no text.
fn bytes(fixture: &Fixture, words: &[&str]) -> Result<Vec<u8>> {
    let file = fixture.path("said");
    let command = fixture.command(words);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "file=$1; shift; exec \"$@\" >\"$file\"", "sh"])
        .arg(&file)
        .arg(command.get_program())
        .args(command.get_args());
    Running::start(shell, Stdio::null())?.finish()?.expect(0)?;
    Ok(fs::read(&file)?)
}

fn bytes_are_those_of_the_app() -> Result<()> {
    with(|fixture| {
        // What a generator of pseudo-random numbers gives, every byte among it but those that journald takes away at
        // the end of a line, or takes for one.
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let noise = noise.filter(|byte| !b"\0\t\n\r ".contains(byte));
        let mut wild: Vec<u8> = noise.take(200_000).collect();
        wild.extend(b"\n  be\0tw\teen\nno end");
        let mut long = vec![b'x'; 3_000_000];
        long.push(b'\n');
        let cases: [(&str, Vec<u8>); 3] = [
            ("wild", wild),
            ("long", long),
            (
                "megabyte",
                [vec![b'm'; 1 << 20], b"\nnext\n".to_vec()].concat(),
            ),
        ];
        for (name, content) in cases {
            fs::write(fixture.out(name), &content)?;
            let app = App::probe(name, ["read", &format!("/out/{name}")]);
            let uuid = ended(fixture, vec![app], &["--no-overlay"])?;
            let said = bytes(fixture, &["logs", &uuid])?;
            let differ = said.iter().zip(&content).position(|(a, b)| a != b);
            ensure!(
                said == content,
                "{name}: {} bytes, not {}, differ at {differ:?}",
                said.len(),
                content.len()
            );
        }
        Ok(())
    })
}

fn many_lines() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["lines", "100000"]).option("--user=alice");
        let uuid = ended(fixture, vec![app], &["--no-overlay"])?;
        let said = fixture.text(["logs", &uuid])?;
        let mut lines = said.lines();
        for number in 1..=100_000 {
            let line = lines.next().with_context(|| format!("line {number}"))?;
            ensure!(
                line == format!("line {number} of 100000"),
                "{number}: {line}"
            );
        }
        assert_eq!(lines.next(), None);
        Ok(())
    })
}

fn of_an_app_that_was_removed() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox(&[""; 0])?;
        let uuid = sandbox.uuid.clone();
        // What it has shown is in the journal.
        let following = fixture.start(["logs", "-f", &uuid])?;
        sandbox.run(&App::probe("gone", ["print", "was here"]))?;
        following.wait_output("gone: was here\n")?;
        sandbox.ended("gone")?;
        sandbox.app("rm", "gone", &[])?.expect(0)?;
        let stays = ["do", "print", "is here", "+", "until-term"];
        sandbox.run(&App::probe("stays", stays))?;
        following.wait_output("stays: is here\n")?;
        assert_eq!(fixture.text(["logs", "--app=gone", &uuid])?, "was here");
        fixture
            .stage0(["logs", "--app=never", &uuid])?
            .expect_refusal(&["--app=never: the pod has no such app, but gone, stays"])?;
        sandbox.stop()?;
        let said = "gone: was here\nstays: is here\nstays: got SIGTERM\n";
        assert_eq!(following.finish()?.expect(0)?.stdout, said);
        assert_eq!(fixture.text(["logs", &uuid])?, said.trim_end());
        Ok(())
    })
}

fn of_pods_that_have_none() -> Result<()> {
    with(|fixture| {
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let prepared = pod.prepare()?;
        let silent = ended(fixture, vec![App::probe("a", ["exit", "0"])], &[])?;
        for uuid in [&prepared, &silent] {
            for words in [&["logs", uuid][..], &["logs", "--tail=3", uuid]] {
                assert_eq!(fixture.text(words)?, "");
            }
        }
        assert_eq!(fixture.text(["logs", "--follow", &silent])?, "");
        // What a pod has put in the place of its journal leads nowhere outside.
        let machine = silent.replace('-', "");
        let folder: PathBuf = fixture
            .pod_dir(&silent)?
            .join("stage1/rootfs/var/log/journal")
            .join(machine);
        fs::rename(&folder, folder.with_extension("away"))?;
        std::os::unix::fs::symlink("/proc/self/root/etc", &folder)?;
        assert_eq!(fixture.text(["logs", &silent])?, "");
        fixture.text(["rm", &silent])?;
        fixture
            .stage0(["logs", &silent])?
            .expect_refusal(&["there is none"])?;
        Ok(())
    })
}

fn the_oldest_go_at_the_bound() -> Result<()> {
    with(|fixture| {
        let options = ["--no-overlay", "--journal-max-size=4Mi"];
        let app = App::probe("a", ["lines", "50000"]);
        let uuid = ended(fixture, vec![app], &options)?;
        let said = fixture.text(["logs", &uuid])?;
        let lines: Vec<&str> = said.lines().collect();
        let first = 50_000 - lines.len() + 1;
        ensure!(first > 1 && lines.len() > 1000, "{} lines", lines.len());
        for (line, number) in lines.iter().zip(first..) {
            ensure!(
                *line == format!("line {number} of 50000"),
                "{number}: {line}"
            );
        }
        let mut size = 0;
        for file in fs::read_dir(fixture.journal_dir(&uuid)?)? {
            size += file?.metadata()?.len();
        }
        // journald looks at it when it begins a new file.
        ensure!(size <= 6 << 20, "{size} bytes");
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let small = pod.option("--journal-max-size=1Mi");
        small
            .run()?
            .expect_refusal(&["annotation stage1/journal-max-size: \"1Mi\": must be 4Mi at least"])
            .map(drop)
    })
}
