//! Attaching with much data, many clients, slow ones, and ends of all kinds.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};
use tests::fixture::{App, Fixture, with};
use tests::process::{BOUND, Running};

use crate::attach::{ALL, attach, shell, with_pod};
use crate::common::process_of_pod;

tests::cases!("attach_load":
    a_hundred_megabytes_arrive_whole,
    a_stuck_client_is_in_nobodys_way,
    fifty_clients_see_the_same,
    long_and_unfinished_lines_are_logged,
    when_what_serves_is_killed_the_app_goes_on,
    an_app_that_starts_again_is_attached_to_again,
    nothing_is_left_of_an_app_that_goes,
    pipes_can_be_opened_again,
    what_serves_ten_apps_is_small
    ; with users:
    nothing_is_left_of_an_app_that_goes,
);

const NO_LOG: &str = "--annotation=stage1/log-streams=false";

/// Connects to an endpoint of the app itself. A socket's path may not be as long as a test's.
fn connect(fixture: &Fixture, uuid: &str, name: &str) -> Result<UnixStream> {
    let dir = fixture.pod_dir(uuid)?.join("stage1/rootfs/rkt/iottymux/a");
    let dir = File::open(&dir).with_context(|| format!("open {}", dir.display()))?;
    let path = format!("/proc/self/fd/{}/sock-{name}", dir.as_raw_fd());
    let stream = UnixStream::connect(path).context("connect")?;
    stream.set_read_timeout(Some(BOUND))?;
    Ok(stream)
}

/// A client that is kept from running for long misses something and is told: all else arrives, in its place.
fn a_hundred_megabytes_arrive_whole() -> Result<()> {
    let script = ">/out/up; /bin/busybox cat; echo over >&2";
    let app = shell("stream", &["stdin", "stdout"], script)?.option(NO_LOG);
    with_pod(&app, |fixture, uuid, pod| {
        let (input, output) = (fixture.path("input"), fixture.path("output"));
        let bytes = bytes_without_order(100 * 1024 * 1024);
        fs::write(&input, &bytes)?;
        // Into the app and out of it again.
        let attach = fixture.command(["attach", uuid]);
        let mut to_file = Command::new("sh");
        to_file.args(["-c", "out=$1; shift; exec \"$@\" >\"$out\"", "sh"]);
        to_file
            .arg(&output)
            .arg(attach.get_program())
            .args(attach.get_args());
        let running = Running::start(to_file, Stdio::from(File::open(&input)?))?;
        running.finish()?.expect(0)?;
        let lost = compare(&bytes, &fs::read(&output)?)?;
        // What was on its way when nobody waited any more.
        ensure!(lost < 10 << 20, "{lost} bytes were lost");
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

/// All bytes there are, in an order that does not come again.
fn bytes_without_order(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Compares what came with what was sent, but for gaps of which the client was told; gives how much they are.
fn compare(sent: &[u8], came: &[u8]) -> Result<usize> {
    const BEFORE: &[u8] = b"\r\n[";
    const AFTER: &[u8] = b" bytes were lost here]\r\n";
    let (mut sent, mut came, mut lost) = (sent, came, 0);
    while sent != came {
        let end = find(came, AFTER).context("other bytes, or fewer, and no gap")?;
        let whole = last(&came[..end], BEFORE).context("a gap without a beginning")?;
        ensure!(sent.get(..whole) == Some(&came[..whole]), "other bytes");
        let missed: usize = std::str::from_utf8(&came[whole + BEFORE.len()..end])?.parse()?;
        sent = sent.get(whole + missed..).context("too much was lost")?;
        came = &came[end + AFTER.len()..];
        lost += missed;
    }
    Ok(lost)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn last(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).rposition(|window| window == part)
}

fn a_stuck_client_is_in_nobodys_way() -> Result<()> {
    let script = ">/out/up; read x; /bin/busybox head -c 4000000 /dev/zero; \
        echo written; read x; echo over";
    let app = shell("stream", &["stdin", "stdout"], script)?.option(NO_LOG);
    with_pod(&app, |fixture, uuid, pod| {
        let mut stuck = connect(fixture, uuid, "stdout")?;
        let mut other = connect(fixture, uuid, "stdout")?;
        let mut stdin = connect(fixture, uuid, "stdin")?;
        stdin.write_all(b"go\n")?;
        // The app writes all of it, and another client sees that, while nobody reads here.
        let (zeros, lost) = read_until(&mut other, "written\n")?;
        assert_eq!(zeros + lost, 4_000_000);
        // This one gets what was kept, is told how much was not, and sees all again from there on.
        let (zeros, lost) = read_until(&mut stuck, "written\n")?;
        assert_eq!(zeros + lost, 4_000_000);
        ensure!(lost > 0, "nothing was lost");
        stdin.write_all(b"go\n")?;
        for mut client in [stuck, other] {
            let mut text = String::new();
            client.read_to_string(&mut text)?;
            assert_eq!(text, "over\n");
        }
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

/// Reads to the end of a text: how many zeros there were before, and how many it says were lost.
fn read_until(client: &mut UnixStream, end: &str) -> Result<(usize, usize)> {
    let mut buffer = vec![0; 65536];
    let (mut zeros, mut text) = (0, String::new());
    while !text.ends_with(end) {
        let count = client.read(&mut buffer)?;
        ensure!(count > 0, "ended after {zeros} zeros and {text:?}");
        let (nothing, said): (Vec<u8>, Vec<u8>) =
            buffer[..count].iter().partition(|byte| **byte == 0);
        zeros += nothing.len();
        text.push_str(&String::from_utf8(said)?);
    }
    let told = text.split('[').skip(1).map(|told| {
        let number = told.split_once(" bytes were lost here]\r\n");
        Ok(number.context("not so told")?.0.parse::<usize>()?)
    });
    Ok((zeros, told.collect::<Result<Vec<_>>>()?.iter().sum()))
}

fn fifty_clients_see_the_same() -> Result<()> {
    let script = ">/out/up; read x; i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done";
    let app = shell("stream", &["stdin", "stdout"], script)?;
    with_pod(&app, |fixture, uuid, pod| {
        let clients = (0..50).map(|_| connect(fixture, uuid, "stdout"));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        connect(fixture, uuid, "stdin")?.write_all(b"go\n")?;
        let expected: String = (0..200).map(|line| format!("line {line}\n")).collect();
        for mut client in clients {
            let mut seen = String::new();
            client.read_to_string(&mut seen)?;
            assert_eq!(seen, expected);
        }
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

fn long_and_unfinished_lines_are_logged() -> Result<()> {
    with(|fixture| {
        let script = "/bin/busybox head -c 1048576 /dev/zero | /bin/busybox tr '\\0' x; \
            echo; printf end";
        let app = shell("stream", &["stdout"], script)?;
        let uuid = fixture.pod([app]).option("--no-overlay").prepare()?;
        fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        let entries = fixture.journal(&uuid, &["STAGE1_APP=a", "PRIORITY=6"])?;
        let said: Vec<_> = entries
            .iter()
            .filter_map(|e| e.get("MESSAGE")?.as_str())
            .collect();
        let (last, long) = said.split_last().context("nothing was logged")?;
        assert_eq!(*last, "end");
        assert_eq!(long.iter().map(|part| part.len()).sum::<usize>(), 1_048_576);
        ensure!(
            long.iter()
                .all(|part| part.bytes().all(|byte| byte == b'x'))
        );
        Ok(())
    })
}

fn when_what_serves_is_killed_the_app_goes_on() -> Result<()> {
    let script = ">/out/up; while read x; do echo got $x; done; exit 3";
    let app = shell("stream", &["stdin", "stdout"], script)?;
    with_pod(&app, |fixture, uuid, pod| {
        let mut cut = attach(fixture, uuid, &[])?;
        let mut stdin = cut.stdin().context("no stdin")?;
        stdin.write_all(b"one\n")?;
        cut.wait_output("got one")?;
        kill_process(process_of_pod(uuid, "iottymux")?, Signal::KILL)?;
        cut.finish()?.expect_refusal(&["was cut"])?;
        let mut again = attach(fixture, uuid, &[])?;
        let mut stdin = again.stdin().context("no stdin")?;
        stdin.write_all(b"two\n")?;
        again.wait_output("got two")?;
        drop(stdin);
        again.finish()?.expect(0)?;
        let finished = pod.finish()?.expect(3)?;
        for line in ["got one", "got two"] {
            ensure!(finished.stdout.contains(line), "{finished}");
        }
        let entries = fixture.journal(uuid, &["STAGE1_APP=a"])?;
        let said: Vec<_> = entries
            .iter()
            .filter_map(|e| e.get("MESSAGE")?.as_str())
            .collect();
        assert_eq!(said, ["got one", "got two"]);
        Ok(())
    })
}

fn an_app_that_starts_again_is_attached_to_again() -> Result<()> {
    let script = "echo x >>/out/starts; >/out/up; read x; echo got $x; exit 1";
    let app = shell("stream", &["stdin", "stdout"], script)?;
    let app = app.option("--annotation=stage1/restart=on-failure");
    with_pod(&app, |fixture, uuid, pod| {
        for start in 1..=3 {
            let starts = fixture.out("starts");
            tests::wait::for_file(&starts, Some(BOUND), |file| {
                std::fs::read(file).is_ok_and(|text| text.len() == 2 * start)
            })?;
            let mut running = attach(fixture, uuid, &[])?;
            running.stdin().context("no stdin")?.write_all(b"it\n")?;
            let finished = running.finish()?.expect(0)?;
            assert_eq!(finished.stdout, "got it\n");
        }
        fixture.text(["stop", uuid])?;
        let finished = pod.finish()?;
        assert_eq!(finished.stdout.matches("got it").count(), 3, "{finished}");
        Ok(())
    })
}

fn nothing_is_left_of_an_app_that_goes() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox::<&str>(&["--no-overlay"])?;
        for mode in ["stream", "tty", "stream"] {
            let script = "while read x; do echo got $x; done";
            let app: App = shell(mode, &ALL, script)?;
            sandbox.run(&app)?;
            let mut running = attach(fixture, &sandbox.uuid, &[])?;
            let mut stdin = running.stdin().context("no stdin")?;
            stdin.write_all(b"it\n")?;
            running.wait_output("got it")?;
            sandbox.app("rm", "a", &["--force"])?.expect(0)?;
            running.finish()?.expect(0)?;
            let dir = sandbox.dir().join("stage1/rootfs/rkt/iottymux/a");
            ensure!(!dir.exists(), "{} is left", dir.display());
        }
        sandbox.stop()?;
        Ok(())
    })
}

fn pipes_can_be_opened_again() -> Result<()> {
    let script = ">/out/up; read x </proc/self/fd/0; echo $x >/dev/stdout; \
        echo $x >/proc/self/fd/2; echo $x >>/dev/stderr";
    let app = shell("stream", &ALL, script)?.option("--user=alice");
    with_pod(&app, |fixture, uuid, pod| {
        let mut running = attach(fixture, uuid, &[])?;
        running.stdin().context("no stdin")?.write_all(b"it\n")?;
        let finished = running.finish()?.expect(0)?;
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("it\n", "it\nit\n")
        );
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

fn what_serves_ten_apps_is_small() -> Result<()> {
    with(|fixture| {
        let script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; \
            >/out/$AC_APP_NAME; read x";
        let names: Vec<_> = (0..10).map(|number| format!("app-{number}")).collect();
        let apps = names.iter().map(|name| {
            let app = shell("stream", &["stdin", "stdout"], script)?;
            Ok(app.called(name))
        });
        let pod = fixture.pod(apps.collect::<Result<Vec<_>>>()?);
        let (uuid, running) = pod.option("--no-overlay").start_prepared(&[])?;
        for name in &names {
            tests::wait::for_path(&fixture.out(name), Some(BOUND))?;
            running
                .wait_output(&format!("{name}["))
                .context("no line")?;
        }
        let mux = process_of_pod(&uuid, "iottymux")?.as_raw_nonzero();
        let rollup = std::fs::read_to_string(format!("/proc/{mux}/smaps_rollup"))?;
        let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let share = share.and_then(|line| line.trim().strip_suffix(" kB"));
        let share: u32 = share.context("no share")?.trim().parse()?;
        ensure!(share <= 2048, "{share} KiB: {rollup}");
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}
