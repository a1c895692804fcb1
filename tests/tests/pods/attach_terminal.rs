//! Attaching to the terminals of apps.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};
use tests::fixture::{App, Fixture};
use tests::process::{BOUND, Finished, Running, run};

use crate::attach::{ALL, with_pod};
use crate::enter_terminal::{mode, unused};

tests::cases!("attach_terminal":
    has_the_size_and_the_keys_of_who_attaches,
    is_left_by_keys_and_signals,
    is_seen_and_used_by_all,
    works_in_a_terminal_multiplexer
    ; with users:
    has_the_size_and_the_keys_of_who_attaches,
);

/// The probe on a terminal for others to attach to, when `/out/up` is there.
fn app(steps: &str) -> App {
    let words = ["do", "write", "/out/up", "", "+"].into_iter();
    let app = App::probe("a", words.chain(steps.split(' ')));
    let app = app.option("--user=alice");
    ALL.iter()
        .fold(app, |app, stream| app.option(format!("--{stream}=tty")))
}

fn on_terminal(fixture: &Fixture, uuid: &str, options: &[&str]) -> Result<(Running, File)> {
    let words = ["attach"].iter().chain(options).chain([&uuid]);
    Running::on_terminal(&fixture.command(words))
}

/// Gives a terminal a size, of which an app tells when it has come to it: then somebody is attached.
pub(crate) fn resize(running: &Running, terminal: &File, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size)?;
    running.wait_output(&format!("size {rows} {columns}"))
}

fn has_the_size_and_the_keys_of_who_attaches() -> Result<()> {
    let steps = "until-size 31 71 + until-size 41 91 + until-term + echo-line + exit 3";
    with_pod(&app(steps), |fixture, uuid, pod| {
        let (running, mut terminal) = on_terminal(fixture, uuid, &[])?;
        resize(&running, &terminal, 31, 71)?;
        resize(&running, &terminal, 41, 91)?;
        // Ctrl-C is the app's.
        terminal.write_all(b"\x03")?;
        running.wait_output("got SIGINT")?;
        terminal.write_all(b"all\r")?;
        running.wait_output("echo: all")?;
        running.finish()?.expect(0)?;
        assert_eq!(mode(&terminal)?, unused()?, "it is not as it was");
        pod.finish()?.expect(3)?;
        Ok(())
    })
}

fn is_left_by_keys_and_signals() -> Result<()> {
    let steps = "until-size 31 71 + until-size 32 72 + until-size 33 73 + echo-line";
    with_pod(&app(steps), |fixture, uuid, pod| {
        let (running, mut terminal) = on_terminal(fixture, uuid, &[])?;
        resize(&running, &terminal, 31, 71)?;
        terminal.write_all(b"\x10\x11")?;
        running.finish()?.expect(0)?;
        assert_eq!(mode(&terminal)?, unused()?);
        let (running, mut terminal) = on_terminal(fixture, uuid, &["--detach-keys=ctrl-x,d"])?;
        resize(&running, &terminal, 32, 72)?;
        terminal.write_all(b"\x18d")?;
        running.finish()?.expect(0)?;
        let (running, terminal) = on_terminal(fixture, uuid, &[])?;
        resize(&running, &terminal, 33, 73)?;
        running.signal(Signal::TERM)?;
        running.finish()?.expect(128 + 15)?;
        assert_eq!(mode(&terminal)?, unused()?);
        // All of them have only gone away.
        let (running, mut terminal) = on_terminal(fixture, uuid, &[])?;
        terminal.write_all(b"still there\r")?;
        running.wait_output("echo: still there")?;
        running.finish()?.expect(0)?;
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

fn is_seen_and_used_by_all() -> Result<()> {
    let steps = "until-size 31 71 + until-size 32 72 + echo-line + echo-line + echo-line";
    with_pod(&app(steps), |fixture, uuid, pod| {
        let (first, mut of_first) = on_terminal(fixture, uuid, &[])?;
        resize(&first, &of_first, 31, 71)?;
        let (second, mut of_second) = on_terminal(fixture, uuid, &[])?;
        resize(&second, &of_second, 32, 72)?;
        of_first.write_all(b"one\r")?;
        for running in [&first, &second] {
            running.wait_output("echo: one")?;
        }
        of_second.write_all(b"two\r")?;
        for running in [&first, &second] {
            running.wait_output("echo: two")?;
        }
        // Without a terminal of one's own one can type, too.
        let words = ["attach", "--mode=tty-in", uuid];
        let mut third = Running::start(fixture.command(words), Stdio::piped())?;
        let mut stdin = third.stdin().context("no stdin")?;
        stdin.write_all(b"three\n")?;
        for running in [first, second] {
            running.wait_output("echo: three")?;
            running.finish()?.expect(0)?;
        }
        let third = third.finish()?.expect(0)?;
        assert_eq!(third.stdout, "");
        pod.finish()?.expect(0)?;
        Ok(())
    })
}

/// A tmux of the test's own, and its server.
struct Tmux<'a>(&'a Path, OwnedFd);

impl<'a> Tmux<'a> {
    /// Starts it with these words, the name of the configuration being that of the socket.
    fn start(socket: &'a Path, words: &[OsString]) -> Result<Self> {
        tmux(socket, words)?.expect(0)?;
        let pid = tmux(socket, &["display-message", "-p", "#{pid}"])?.expect(0)?;
        let pid = Pid::from_raw(pid.stdout.trim().parse()?).context("pid")?;
        Ok(Self(socket, pidfd_open(pid, PidfdFlags::empty())?))
    }

    fn call<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Finished> {
        tmux(self.0, words)
    }

    /// Waits until a text is on the screen, of which nobody is told.
    fn shows(&self, text: &str) -> Result<()> {
        let end = Instant::now() + BOUND;
        loop {
            let screen = self.call(&["capture-pane", "-p"])?.expect(0)?.stdout;
            if screen.contains(text) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not on the screen: {text}\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // In vain when its only program has ended, and it with that.
        let _ = self.call(&["kill-server"]);
        let _ = tests::wait::readable(self.1.as_fd(), Some(Instant::now() + BOUND));
    }
}

fn tmux<S: AsRef<OsStr>>(socket: &Path, words: &[S]) -> Result<Finished> {
    let mut command = Command::new("tmux");
    command.arg("-f").arg(socket.with_extension("conf"));
    command.arg("-S").arg(socket).args(words);
    run(command)
}

fn works_in_a_terminal_multiplexer() -> Result<()> {
    let steps = "until-size 31 71 + until-size 35 75 + echo-line + wait-file /out/end";
    with_pod(&app(steps), |fixture, uuid, pod| {
        let socket = fixture.path("tmux");
        std::fs::write(
            socket.with_extension("conf"),
            "set -g status off\nset -g default-size 71x31\n",
        )?;
        let status = fixture.path("status");
        let attach = fixture.command(["attach", uuid]);
        let mut words: Vec<_> = ["new-session", "-d", "-x", "71", "-y", "31", "sh", "-c"]
            .map(Into::into)
            .into();
        words.push("\"$@\"; echo $? >\"$0.new\"; mv \"$0.new\" \"$0\"".into());
        words.push(status.clone().into_os_string());
        words.push(attach.get_program().to_owned());
        words.extend(attach.get_args().map(ToOwned::to_owned));
        let tmux = Tmux::start(&socket, &words)?;
        tmux.shows("size 31 71")?;
        tmux.call(&["resize-window", "-x", "75", "-y", "35"])?
            .expect(0)?;
        tmux.shows("size 35 75")?;
        tmux.call(&["send-keys", "all of it", "Enter"])?.expect(0)?;
        tmux.shows("echo: all of it")?;
        tmux.call(&["send-keys", "C-p", "C-q"])?.expect(0)?;
        tests::wait::for_path(&status, Some(BOUND))?;
        assert_eq!(std::fs::read_to_string(&status)?, "0\n");
        std::fs::write(fixture.out("end"), "")?;
        pod.finish()?.expect(0)?;
        Ok(())
    })
}
