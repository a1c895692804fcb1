//! What stays on the host: passes signals on to the command, and ends as it does.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::relay::Relay;
use super::terminal::Outside;

/// The signals that are passed on as they are.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];
/// Those that more is done for.
const OWN: [Signal; 4] = [
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// Signals of this process, to be read instead of handled.
pub(super) struct Signals(SignalFd);

impl Signals {
    /// From now on they wait until they are read.
    pub(super) fn take() -> Result<Self> {
        let set: SigSet = PASSED_ON.into_iter().chain(OWN).collect();
        set.thread_block().context("hold back signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(
            SignalFd::with_flags(&set, flags).context("take signals")?,
        ))
    }

    fn next(&self) -> Result<Option<Signal>> {
        let next = self.0.read_signal().context("read a signal")?;
        let number = next.map(|info| i32::try_from(info.ssi_signo));
        let number = number.transpose().context("number of a signal")?;
        Ok(number.and_then(|number| Signal::try_from(number).ok()))
    }
}

/// Stays until the process that enters, and has become the command, has ended, and gives its status.
pub(super) fn until_ended(
    child: Pid,
    signals: &Signals,
    terminal: Option<Outside>,
) -> Result<ExitCode> {
    let mut command = Command {
        pid: child,
        // It is not waited for yet, so nobody else has its number.
        pidfd: pidfd_open(child, PidfdFlags::empty()).context("open the process that enters")?,
        terminal,
        relay: None,
    };
    loop {
        command.wait(signals)?;
        while let Some(signal) = signals.next()? {
            if let Some(status) = command.signal(signal)? {
                return Ok(status);
            }
        }
    }
}

/// The process that has become the command, and its terminal.
struct Command {
    pid: Pid,
    pidfd: OwnedFd,
    /// The terminal that is to come.
    terminal: Option<Outside>,
    relay: Option<Relay>,
}

impl Command {
    /// Waits for signals, and serves the terminal meanwhile.
    fn wait(&mut self, signals: &Signals) -> Result<()> {
        let mut fds = vec![PollFd::new(&signals.0, PollFlags::IN)];
        fds.extend(
            self.terminal
                .iter()
                .map(|terminal| PollFd::new(&terminal.socket, PollFlags::IN)),
        );
        fds.extend(self.relay.iter().flat_map(Relay::waits));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(err) => return Err(err).context("wait for the command"),
        }
        let seen: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if let (Some(relay), [_, master, stdin]) = (&mut self.relay, &seen[..]) {
            if !relay.carry(*master, *stdin)? {
                // Nothing comes any more, and there is no use in looking again.
                self.relay = None;
            }
        }
        if let (Some(terminal), [_, ready]) = (&self.terminal, &seen[..]) {
            if !ready.is_empty() {
                self.relay = terminal.receive()?.map(Relay::new).transpose()?;
                self.terminal = None;
            }
        }
        Ok(())
    }

    /// Does what a signal asks for. Gives the status when the command has ended.
    fn signal(&mut self, signal: Signal) -> Result<Option<ExitCode>> {
        match signal {
            Signal::SIGCHLD => return self.changed(),
            Signal::SIGWINCH => {
                if let Some(relay) = &self.relay {
                    relay.resize();
                }
            }
            // The command's whole group, as a shell does it. It is in a session of its own, where the kernel stops nobody
            // by SIGTSTP; this process stops when it learns that the command has.
            Signal::SIGTSTP => self.signal_group(rustix::process::Signal::STOP)?,
            Signal::SIGCONT => {
                if let Some(relay) = &self.relay {
                    relay.resume()?;
                }
                self.signal_group(rustix::process::Signal::CONT)?;
            }
            other => self.pass_on(other)?,
        }
        Ok(None)
    }

    fn pass_on(&self, signal: Signal) -> Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal as i32)
            .context("a signal without a name")?;
        gone_is_fine(pidfd_send_signal(&self.pidfd, signal))
    }

    fn signal_group(&self, signal: rustix::process::Signal) -> Result<()> {
        gone_is_fine(kill_process_group(self.pid, signal))
    }

    /// The command has ended, or was stopped: then this process stops too, and who started it learns that.
    fn changed(&mut self) -> Result<Option<ExitCode>> {
        use std::os::fd::AsFd;
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        let Some(status) = status.context("wait for the command")? else {
            return Ok(None);
        };
        if status.stopped() {
            if let Some(relay) = &self.relay {
                relay.pause()?;
            }
            kill_process(getpid(), rustix::process::Signal::STOP).context("stop this process")?;
            return Ok(None);
        }
        if let Some(relay) = &self.relay {
            relay.finish()?;
        }
        self.relay = None;
        let signal = status.terminating_signal().map(|signal| 128 + signal);
        let code = status.exit_status().or(signal).unwrap_or_default();
        Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))))
    }
}

fn gone_is_fine(sent: rustix::io::Result<()>) -> Result<()> {
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(err) => Err(err).context("pass a signal on to the command"),
    }
}
