//! Entering apps from a terminal, and signals.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, openpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use tests::fixture::Fixture;
use tests::image::file;
use tests::probe::Seen;
use tests::process::{BOUND, Running};

use crate::enter::{self, hanging};

tests::cases!("enter_terminal":
    is_the_pods,
    has_the_callers_size,
    keys_are_the_apps,
    is_restored_when_enter_is_killed,
    jobs_are_stopped_and_go_on,
    only_what_was_a_terminal_is_one,
    signals_are_passed_on,
    a_stopped_command_stops_enter,
);

/// A pod of one app that hangs, with a shell.
fn with_pod(test: impl Fn(&Fixture, &str) -> Result<()>) -> Result<()> {
    let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox")?;
    let app = hanging().change(|image| image.with([file("bin/sh", 0o755, busybox)]));
    enter::with_pod(app.option("--user=alice"), test)
}

/// Enters on a new terminal.
fn on_terminal(fixture: &Fixture, uuid: &str, words: &str) -> Result<(Running, File)> {
    let words = ["enter", uuid].into_iter().chain(words.split(' '));
    Running::on_terminal(&fixture.command(words))
}

/// How a terminal is, as far as enter changes it.
pub(crate) fn mode(terminal: &File) -> Result<String> {
    let Termios {
        input_modes,
        output_modes,
        control_modes,
        local_modes,
        ..
    } = tcgetattr(terminal)?;
    Ok(format!(
        "{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}"
    ))
}

/// How a terminal is that nobody has changed.
pub(crate) fn unused() -> Result<String> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    mode(&File::from(master))
}

fn is_the_pods() -> Result<()> {
    with_pod(|fixture, uuid| {
        let words = "/probe see --stat /proc/self/fd/0 --stat /dev/pts/0";
        let (running, terminal) = on_terminal(fixture, uuid, words)?;
        let finished = running.finish()?.expect(0)?;
        let seen: Seen = serde_json::from_str(finished.stdout.trim())
            .with_context(|| format!("no report: {finished}"))?;
        ensure!(seen.terminal.controlling, "no controlling terminal");
        assert_eq!(seen.terminal.streams, [true; 3]);
        // By its name in the app's own /dev, and of the app's user.
        for fd in 0..3 {
            assert_eq!(seen.fds[&fd], "/dev/pts/0");
        }
        assert_eq!(seen.fds.len(), 3, "{:?}", seen.fds);
        assert_eq!(seen.stat("/dev/pts/0")?.uid, 1234);
        assert_eq!(seen.ids["sid"], seen.ids["pid"], "not a session of its own");
        assert_eq!(mode(&terminal)?, unused()?, "it is not as it was");
        Ok(())
    })
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn has_the_callers_size() -> Result<()> {
    with_pod(|fixture, uuid| {
        let words = "/probe do until-size 31 71 + until-size 41 91";
        let (running, terminal) = on_terminal(fixture, uuid, words)?;
        // It may be before enter looks, or after: either way it is the terminal's in the end.
        tcsetwinsize(&terminal, size(31, 71))?;
        running.wait_output("size 31 71")?;
        tcsetwinsize(&terminal, size(41, 91))?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn keys_are_the_apps() -> Result<()> {
    with_pod(|fixture, uuid| {
        let words = "/probe do print ready + until-term + echo-line";
        let (running, mut terminal) = on_terminal(fixture, uuid, words)?;
        running.wait_output("ready")?;
        // Ctrl-C is for the program in the app: enter does not end by it.
        terminal.write_all(b"\x03")?;
        running.wait_output("got SIGINT")?;
        terminal.write_all(b"all\r")?;
        let finished = running.finish()?.expect(0)?;
        ensure!(finished.stdout.contains("echo: all"), "{finished}");
        Ok(())
    })
}

fn is_restored_when_enter_is_killed() -> Result<()> {
    with_pod(|fixture, uuid| {
        let words = "/probe do print ready + hang";
        let (running, terminal) = on_terminal(fixture, uuid, words)?;
        running.wait_output("ready")?;
        let raw = mode(&terminal)?;
        // stage0, and what made the session, have become enter.
        running.signal(Signal::TERM)?;
        running.finish()?.expect(128 + 15)?;
        assert_ne!(raw, unused()?);
        assert_eq!(mode(&terminal)?, unused()?, "it is not as it was");
        Ok(())
    })
}

fn jobs_are_stopped_and_go_on() -> Result<()> {
    with_pod(|fixture, uuid| {
        let (running, mut terminal) = on_terminal(fixture, uuid, "/bin/sh -i")?;
        let mut say = |text: &str| terminal.write_all(text.as_bytes());
        say("/probe do print begun + echo-line\r")?;
        running.wait_output("begun\r\n")?;
        say("\x1a")?;
        running.wait_output("Stopped")?;
        // The shell answers meanwhile.
        say("/probe print between-$((1+1))\r")?;
        running.wait_output("between-2")?;
        // What comes while the shell reads a line is the shell's.
        say("echo mark$((2+3)); fg\r")?;
        running.wait_output("mark5")?;
        say("again\r")?;
        running.wait_output("echo: again")?;
        say("exit 5\r")?;
        running.finish()?.expect(5)?;
        Ok(())
    })
}

fn only_what_was_a_terminal_is_one() -> Result<()> {
    with_pod(|fixture, uuid| {
        // A shell on a terminal, with the output of enter in a file.
        let enter = fixture.command(["enter", uuid, "/probe", "see"]);
        let mut words = vec![
            "-c".into(),
            "out=$1; shift; \"$@\" >\"$out\"".into(),
            "sh".into(),
        ];
        words.push(fixture.path("seen").into_os_string());
        words.push(enter.get_program().to_owned());
        words.extend(enter.get_args().map(ToOwned::to_owned));
        let mut shell = std::process::Command::new("sh");
        shell.args(words);
        let (running, _terminal) = Running::on_terminal(&shell)?;
        running.finish()?.expect(0)?;
        let seen: Seen = serde_json::from_str(&std::fs::read_to_string(fixture.path("seen"))?)?;
        assert_eq!(seen.terminal.streams, [true, false, true]);
        Ok(())
    })
}

/// Enters without a terminal, and waits for the command.
fn without_terminal(fixture: &Fixture, uuid: &str, words: &str) -> Result<Running> {
    let words = ["enter", uuid].into_iter().chain(words.split(' '));
    let running = Running::start(fixture.command(words), Stdio::null())?;
    running.wait_output("ready")?;
    Ok(running)
}

fn signals_are_passed_on() -> Result<()> {
    with_pod(|fixture, uuid| {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let words = "/probe do print ready + until-term + exit 3";
            let running = without_terminal(fixture, uuid, words)?;
            running.signal(signal)?;
            let finished = running.finish()?.expect(3)?;
            ensure!(finished.stdout.contains("got SIG"), "{finished}");
        }
        for (signal, number) in [(Signal::QUIT, 3), (Signal::USR1, 10), (Signal::USR2, 12)] {
            let words = "/probe do print ready + hang";
            let running = without_terminal(fixture, uuid, words)?;
            running.signal(signal)?;
            running.finish()?.expect(128 + number)?;
        }
        Ok(())
    })
}

/// Waits until a process is stopped, or is so no longer.
fn wait_stopped(pid: Pid, stopped: bool) -> Result<()> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let end = std::time::Instant::now() + BOUND;
    loop {
        let stat = std::fs::read_to_string(&path).context("read its stat")?;
        if stat.contains(") T ") == stopped {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < end, "{stat}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn a_stopped_command_stops_enter() -> Result<()> {
    with_pod(|fixture, uuid| {
        let words = "/probe do print ready + until-term";
        let running = without_terminal(fixture, uuid, words)?;
        let enter = running.pid().as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{enter}/task/{enter}/children"))?;
        let command = Pid::from_raw(children.trim().parse()?).context("pid")?;
        // As the shell does it that enter is started from: both stop, and both go on.
        running.signal(Signal::TSTP)?;
        wait_stopped(command, true)?;
        wait_stopped(running.pid(), true)?;
        running.signal(Signal::CONT)?;
        wait_stopped(running.pid(), false)?;
        wait_stopped(command, false)?;
        running.signal(Signal::TERM)?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}
