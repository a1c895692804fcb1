//! Child processes with a bound on their time and both output streams read as they come.

mod finished;
mod killed;
mod stream;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub use finished::Finished;
pub use killed::killed_at;
use stream::Stream;

use crate::wait;

/// How long anything may take before a test gives up on it. What does not hang gets nowhere near, but for emulated
/// guests on a machine that has much else to do.
pub const BOUND: Duration = Duration::from_secs(300);

/// Held while a child is started. A child that another thread forks has copies of all descriptors until it executes
/// its program, close-on-exec or not; so a lock would be held by a stranger for a moment, and a program that is being
/// written could not be executed. Who does either holds this, too.
pub(crate) fn spawning() -> MutexGuard<'static, ()> {
    static SPAWNING: Mutex<()> = Mutex::new(());
    SPAWNING.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.wait_text(&self.stdout, text)
    }

    /// Waits until stderr contains a text.
    pub fn wait_errors(&self, text: &str) -> Result<()> {
        self.wait_text(&self.stderr, text)
    }

    fn wait_text(&self, stream: &Stream, text: &str) -> Result<()> {
        stream
            .wait(BOUND, |all, _| all.contains(text).then_some(()))
            .with_context(|| {
                format!(
                    "wait for {text:?} from {}\nstdout: {}\nstderr: {}",
                    self.command,
                    self.stdout.text(),
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
                .wait(BOUND, |_, ended| ended.then_some(()))
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

#[cfg(test)]
mod tests {
    use super::*;

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
