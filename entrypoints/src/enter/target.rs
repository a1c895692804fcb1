//! What is entered: the app's main process, when there is one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::cgroup::Hierarchies;
use common::main_process::MainProcess;
use common::pod::SUPERVISOR_READY;
use procfs::process::Process;
use rustix::fs::{OFlags, readlinkat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::app::App;
use super::likeness::Likeness;
use super::pod::Pod;
use super::scheduling::Scheduling;
use crate::supervisor::{self, LOOK_AGAIN};

/// The program that becomes each app, in the pod's root.
const PREPARE_APP: &str = "/prepare-app";

/// How long an app may take to start before it is entered as one that does not run.
const START_TIME: Duration = Duration::from_secs(30);

/// What is entered.
pub(super) enum Target {
    /// The pod itself.
    Pod,
    /// An app that runs.
    Running(Box<Running>),
    /// An app that does not.
    Stopped,
}

/// The main process of an app.
pub(super) struct Running {
    /// Which process it is.
    pub(super) main: MainProcess,
    /// The same in `/proc`, held open: it never becomes another process's.
    pub(super) process: Process,
    /// What a child of it would inherit.
    pub(super) likeness: Likeness,
    /// Its cgroups.
    pub(super) cgroups: Hierarchies,
}

/// Finds the main process of `app`, and waits for it while the pod or the app starts.
pub(super) fn find(pod: &Pod, app: &App) -> Result<Target> {
    let deadline = Instant::now() + START_TIME;
    let mut at_rest = false;
    loop {
        // Before the look, as is `at_rest`: an app that starts in between is one that runs.
        let ready = is_ready(pod);
        match look(pod, app)? {
            Found::Main(running) => return Ok(Target::Running(running)),
            Found::Nothing if ready && at_rest => return Ok(Target::Stopped),
            Found::Nothing if ready && !is_prepared(pod, app) => {
                at_rest = true;
                continue;
            }
            Found::Nothing | Found::Starting => {}
        }
        if supervisor::wait(&pod.init, Some(LOOK_AGAIN))? {
            bail!("the pod has ended");
        }
        // What it waits for may be what somebody enters to look at.
        if Instant::now() >= deadline {
            return Ok(Target::Stopped);
        }
    }
}

enum Found {
    Main(Box<Running>),
    /// The process that will be it is there.
    Starting,
    Nothing,
}

fn look(pod: &Pod, app: &App) -> Result<Found> {
    let path = pod.paths().main_process(&app.name);
    let Some(content) = pod.read(&path)? else {
        return Ok(Found::Nothing);
    };
    let main: MainProcess = String::from_utf8_lossy(&content)
        .parse()
        .with_context(|| format!("read {} of the pod", path.display()))?;
    let Ok(process) = pod.process(main.pid) else {
        return Ok(Found::Nothing);
    };
    if !main.is(&process) {
        return Ok(Found::Nothing);
    }
    if prepares(pod, &process) {
        return Ok(Found::Starting);
    }
    let likeness = Likeness::read(&process);
    let cgroups = pod.cgroups(main.pid);
    // What was read of a process that has ended since is nothing, or an error.
    if !main.is(&process) {
        return Ok(Found::Nothing);
    }
    Ok(Found::Main(Box::new(Running {
        main,
        process,
        likeness: likeness?,
        cgroups: cgroups?,
    })))
}

/// Whether a process is still the program of ours that becomes the app: until then its mount namespace is the pod's, or
/// has the pod's root in it.
fn prepares(pod: &Pod, process: &Process) -> bool {
    let program = process.open_relative_flags("exe", OFlags::PATH | OFlags::CLOEXEC);
    let program = program.map(|program| rustix::fs::fstat(&program));
    let ours = pod.root.stat(Path::new(PREPARE_APP));
    match (program, ours) {
        (Ok(Ok(program)), Ok(Some(ours))) => {
            (program.st_dev, program.st_ino) == (ours.st_dev, ours.st_ino)
        }
        _ => true,
    }
}

/// Whether the program of ours that becomes the app runs. For systemd, and so for the pod, the app has started by that; what
/// its main process is comes later.
fn is_prepared(pod: &Pod, app: &App) -> bool {
    let words = [PREPARE_APP, app.name.as_str()];
    let is_ours = |process: &Process| {
        let line = process.cmdline();
        line.is_ok_and(|line| line.iter().take(2).eq(&words)) && prepares(pod, process)
    };
    pod.processes().any(|process| is_ours(&process))
}

/// Whether every app that starts with the pod has been started.
fn is_ready(pod: &Pod) -> bool {
    let link = pod.paths().supervisor_status();
    let link = pod.root.open_at(&link, OFlags::PATH | OFlags::NOFOLLOW);
    let target = link.and_then(|link| readlinkat(link, c"", Vec::new()));
    target.is_ok_and(|target| target.as_bytes() == SUPERVISOR_READY.as_bytes())
}

impl Running {
    /// Holds the process by a descriptor that its namespaces can be joined by, and finds when and where a child of it
    /// would run. Only for a process in the pod's PID namespace.
    pub(super) fn open(&self) -> Result<(OwnedFd, Scheduling)> {
        let pid = Pid::from_raw(self.main.pid).context("the app's main process has no pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("open the app's main process")?;
        let scheduling = Scheduling::of(pid, &self.process);
        // It is there still, so nobody else has its number.
        if !self.main.is(&self.process) {
            bail!("the app has ended");
        }
        Ok((pidfd, scheduling.context("look at the app's main process")?))
    }
}
