//! Serves the streams of the pod's apps to those who attach: one process for all apps of a pod, started by the first app
//! that needs it.
//!
//! prepare-app makes the pipes or the terminal of its app and hands the other ends over (`hand_over`); by the time the
//! app's program is executed the endpoints are there. Each stream of output is read once and passed on to its log and to
//! any number of clients (`output`); what clients send is the app's input (`input`).
//!
//! Nothing here waits for one client, and nothing but a log that takes all keeps an app waiting. PID 1 keeps the
//! descriptors: when this program dies, clients are cut off, and the apps and their logs go on with the next one.

mod cri;
mod hand_over;
mod input;
mod journal_log;
mod output;
mod ring;
mod run;
mod sink;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::flags;
use common::pod::StageRoot;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::{notify, print_help};
use hand_over::Passed;
pub(crate) use hand_over::SERVED;
use run::{Place, Run, report};

const USAGE: &str = "iottymux";
const ABOUT: &str = "Serves the streams of the pod's apps to those who attach. Started by systemd.";

/// How long a tick is, in which a client must take something if it is to be waited for.
const TICK: Duration = Duration::from_millis(25);

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&[], args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &[]));
    }
    let passed = Passed::take()?;
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("hold back signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let mut mux = Mux {
        root: StageRoot::new("/"),
        socket: passed.socket,
        signals: signals.context("take signals")?,
        callers: Vec::new(),
        runs: Vec::new(),
        stopping: false,
        last_tick: Instant::now(),
    };
    for (app, kept) in passed.kept {
        match hand_over::restore(&mux.root, &app, kept) {
            Ok(run) => mux.runs.push(run),
            Err(err) => report(Err(err), &app),
        }
    }
    notify::ready()?;
    mux.serve()?;
    Ok(ExitCode::SUCCESS)
}

/// What is ready.
#[derive(Clone, Copy)]
enum What {
    Signal,
    Socket,
    Caller(usize),
    Run(usize, Place),
}

struct Mux {
    root: StageRoot,
    /// Where prepare-app comes.
    socket: OwnedFd,
    signals: SignalFd,
    /// Those who have come and not said yet for which app.
    callers: Vec<OwnedFd>,
    runs: Vec<Run>,
    stopping: bool,
    last_tick: Instant,
}

impl Mux {
    /// Serves until it is told to stop, and all that was said is with those whom it is for.
    fn serve(&mut self) -> Result<()> {
        while !(self.stopping && self.runs.is_empty()) {
            let mut gone = Vec::new();
            for (what, flags) in self.wait()? {
                self.serve_one(what, flags, &mut gone);
            }
            for number in gone.into_iter().rev() {
                self.callers.remove(number);
            }
            self.tick();
            for run in &mut self.runs {
                run.sweep(&self.root);
            }
            self.runs.retain(|run| !run.is_done());
        }
        Ok(())
    }

    /// Waits for something to do.
    fn wait(&self) -> Result<Vec<(What, PollFlags)>> {
        let mut whats = vec![What::Signal, What::Socket];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::IN),
        ];
        for (number, caller) in self.callers.iter().enumerate() {
            whats.push(What::Caller(number));
            fds.push(PollFd::new(caller, PollFlags::IN));
        }
        for (number, run) in self.runs.iter().enumerate() {
            for (place, fd) in run.waits() {
                whats.push(What::Run(number, place));
                fds.push(fd);
            }
        }
        let counts = self.stopping || self.runs.iter().any(Run::counts);
        let time = counts.then(|| Timespec::try_from(TICK)).transpose();
        match poll(&mut fds, time.context("a tick")?.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err).context("wait for something to do"),
        }
        let ready = whats.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn serve_one(&mut self, what: What, flags: PollFlags, gone: &mut Vec<usize>) {
        match what {
            What::Signal => self.take_signal(),
            What::Socket => {
                let caller = accept_with(&self.socket, SocketFlags::CLOEXEC);
                self.callers.extend(caller.ok());
            }
            What::Caller(number) => {
                gone.push(number);
                self.receive(number);
            }
            What::Run(number, place) => self.runs[number].serve(place, flags),
        }
    }

    fn take_signal(&mut self) {
        match self.signals.read_signal() {
            Ok(Some(signal)) if signal.ssi_signo == Signal::SIGHUP as u32 => {
                self.runs.iter_mut().for_each(Run::reopen_logs);
            }
            Ok(Some(_)) => self.stopping = true,
            _ => {}
        }
    }

    /// Takes on the app of a caller. A run of the same app before is over, whoever may have its streams open yet.
    fn receive(&mut self, caller: usize) {
        let (root, runs) = (&self.root, &mut self.runs);
        let replace = |app: &str| {
            let before = runs.iter_mut().filter(|run| run.app == app);
            for run in before.filter(|run| run.is_current()) {
                run.retire(root)?;
            }
            Ok(())
        };
        match hand_over::receive(root, &self.callers[caller], replace) {
            Ok(run) => self.runs.extend(run),
            Err(err) => eprintln!("iottymux: {err:#}"),
        }
    }

    /// Counts time, when one has gone by since the last tick: however long that was, as everything may have stood still.
    fn tick(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last_tick) < TICK {
            return;
        }
        self.last_tick = now;
        for run in &mut self.runs {
            run.tick(self.stopping);
            if self.stopping {
                run.close();
            }
        }
    }
}
