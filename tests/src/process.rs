//! Child processes with a bound on their time and both output streams read as they come.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wait;

/// How long anything may take before a test gives up on it.
pub const BOUND: Duration = Duration::from_secs(60);

/// Held while a child is started. A child that another thread forks has copies of all descriptors until it executes
/// its program, close-on-exec or not; so a lock would be held by a stranger for a moment.
pub(crate) fn spawning() -> MutexGuard<'static, ()> {
    static SPAWNING: Mutex<()> = Mutex::new(());
    SPAWNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a stream has given so far.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    ended: bool,
}

/// A stream that a thread reads to its end.
#[derive(Clone)]
struct Stream(Arc<(Mutex<Flow>, Condvar)>);

impl Stream {
    fn read(mut source: impl Read + Send + 'static) -> Self {
        let stream = Self(Arc::default());
        let writer = stream.clone();
        std::thread::spawn(move || {
            let (flow, news) = &*writer.0;
            let mut buffer = [0; 8192];
            loop {
                // A pseudoterminal whose other side is closed gives an error, not an end.
                let count = source.read(&mut buffer).unwrap_or(0);
                let mut flow = flow.lock().expect("no reader panics");
                flow.bytes.extend_from_slice(&buffer[..count]);
                flow.ended |= count == 0;
                news.notify_all();
                if flow.ended {
                    return;
                }
            }
        });
        stream
    }

    /// Waits until `found` gives something of the text so far; at the stream's end it is asked a last time.
    fn wait<T>(&self, bound: Duration, found: impl Fn(&str, bool) -> Option<T>) -> Result<T> {
        let (flow, news) = &*self.0;
        let end = Instant::now() + bound;
        let mut flow = flow.lock().expect("no reader panics");
        loop {
            let text = String::from_utf8_lossy(&flow.bytes);
            if let Some(found) = found(&text, flow.ended) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(
                !flow.ended && !left.is_zero(),
                "not seen in the output:\n{text}"
            );
            drop(text);
            flow = news.wait_timeout(flow, left).expect("no reader panics").0;
        }
    }

    fn text(&self) -> String {
        let flow = self.0.0.lock().expect("no reader panics");
        String::from_utf8_lossy(&flow.bytes).into_owned()
    }
}

/// A child that runs. It is killed when this is dropped.
pub struct Running {
    child: Child,
    command: String,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Starts a command with this stdin and both outputs piped.
    pub fn start(command: Command, stdin: Stdio) -> Result<Self> {
        Self::start_prepared(command, stdin, |_| Ok(()))
    }

    /// The same, with a last preparation in which descriptors may be opened that nobody else must hold for a moment.
    pub fn start_prepared(
        mut command: Command,
        stdin: Stdio,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let shown = format!("{command:?}");
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = {
            let _alone = spawning();
            prepare(&mut command)?;
            let child = command.spawn();
            // With it what it holds open for the child.
            drop(command);
            child
        };
        let mut child = child.with_context(|| format!("start {shown}"))?;
        let stdout = Stream::read(child.stdout.take().context("stdout")?);
        let stderr = Stream::read(child.stderr.take().context("stderr")?);
        Ok(Self {
            child,
            command: shown,
            stdout,
            stderr,
        })
    }

    /// Starts a command as the leader of a session on a new terminal: all three streams are the terminal, and what
    /// it shows is taken as stdout.
    pub fn on_terminal(command: &Command) -> Result<(Self, File)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            &name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // It takes standard input for its controlling terminal and becomes the command.
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            session.current_dir(dir);
        }
        let shown = format!("{session:?}");
        session
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        let child = {
            let _alone = spawning();
            session.spawn().with_context(|| format!("start {shown}"))?
        };
        // Holds the terminal's other side open.
        drop(session);
        let master = File::from(master);
        let stdout = Stream::read(master.try_clone()?);
        let running = Self {
            child,
            command: shown,
            stdout,
            stderr: Stream::read(std::io::empty()),
        };
        Ok((running, master))
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid(), signal).with_context(|| format!("signal {}", self.command))
    }

    /// Its standard input, if it was piped.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until stdout contains a text.
    pub fn wait_output(&self, text: &str) -> Result<()> {
        self.stdout
            .wait(BOUND, |all, _| all.contains(text).then_some(()))
            .with_context(|| {
                format!(
                    "wait for {text:?} from {}; stderr: {}",
                    self.command,
                    self.stderr.text()
                )
            })
    }

    /// Waits until it has ended *and* nobody holds its output streams open any more.
    pub fn finish(mut self) -> Result<Finished> {
        let end = Instant::now() + BOUND;
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).context("pidfd")?;
        if !wait::readable(std::os::fd::AsFd::as_fd(&pidfd), Some(end))? {
            bail!(
                "{} does not end\nstdout: {}\nstderr: {}",
                self.command,
                self.stdout.text(),
                self.stderr.text()
            );
        }
        let status = self.child.wait().context("wait")?;
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            stream
                .wait(Duration::from_secs(10), |_, ended| ended.then_some(()))
                .with_context(|| format!("something keeps {name} of {} open", self.command))?;
        }
        Ok(Finished {
            command: self.command.clone(),
            status,
            stdout: self.stdout.text().replace("\r\n", "\n"),
            stderr: self.stderr.text().replace("\r\n", "\n"),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly for one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub fn run(command: Command) -> Result<Finished> {
    Running::start(command, Stdio::null())?.finish()
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote on stdout.
    pub stdout: String,
    /// All that it wrote on stderr.
    pub stderr: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\nstdout: {}\nstderr: {}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

impl Finished {
    /// Exit code; 128+signal when killed.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Fails unless it exited with this code.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code() == code,
            "exit status {code} expected, of {self}"
        );
        Ok(self)
    }

    /// Fails unless it failed as our programs do: exit 254, and a line on stderr that contains all of `parts`.
    pub fn expect_refusal(self, parts: &[&str]) -> Result<Self> {
        let finished = self.expect(254)?;
        let explained = finished
            .stderr
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(explained, "no line with {parts:?} on stderr of {finished}");
        Ok(finished)
    }

    /// What an app wrote: the text of console lines `APP[PID]: text`, with or without a time before them.
    pub fn console(&self, app: &str) -> Vec<&str> {
        self.stdout
            .lines()
            .filter_map(|line| console_text(line, app))
            .collect()
    }
}

fn console_text<'a>(line: &'a str, app: &str) -> Option<&'a str> {
    let line = match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    };
    let (pid, text) = line
        .strip_prefix(app)?
        .strip_prefix('[')?
        .split_once("]: ")?;
    pid.parse::<u32>().is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines() {
        assert_eq!(console_text("a[12]: text: more", "a"), Some("text: more"));
        assert_eq!(
            console_text("[    1.234567] a[12]: text", "a"),
            Some("text")
        );
        for other in [
            "ab[12]: text",
            "a[x]: text",
            "a: text",
            "[note] a[12]: text",
            "",
        ] {
            assert_eq!(console_text(other, "a"), None, "{other:?}");
        }
    }

    #[test]
    fn output_and_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = run(command).unwrap().expect(3).unwrap();
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert!(finished.expect_refusal(&["err"]).is_err());
    }

    #[test]
    fn death_by_signal() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -KILL $$"]);
        assert_eq!(run(command).unwrap().code(), 137);
    }
}
