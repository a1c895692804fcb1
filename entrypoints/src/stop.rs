//! Stops the pod in the working directory and waits until it is gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::cgroup::Hierarchies;
use common::flags::{self, Flag, switch};
use common::lock;
use common::pod::PodDir;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::{print_help, supervisor, uuid};

const FLAGS: [Flag; 2] = [
    switch("force", "kill every process of the pod"),
    switch("debug", "accepted, for stage0s that pass it"),
];
/// How long a pod may take to get a PID 1 that can be told to halt, while it starts, and to be gone without one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a pod is looked at when there is nothing to wait for: the kernel tells nobody of a new PID 1 or a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const ADVICE: &str = "stop the pod with --force";
const USAGE: &str = "stop [OPTIONS] UUID";
const ABOUT: &str =
    "Stops the pod in the working directory: its apps in order, or all at once with --force.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let pod = Pod {
        dir: PodDir::new("."),
        lock: File::open(".").context("open the pod directory")?,
        uuid: uuid(&flags.rest)?,
        hierarchies: Hierarchies::read(Path::new("/proc"))?,
    };
    if flags.is_set("force") {
        pod.kill()?;
    } else {
        pod.halt()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A pod that may start, run, end, or be gone at any moment.
struct Pod {
    dir: PodDir,
    /// The pod directory, for looking at the lock on it.
    lock: File,
    uuid: Uuid,
    hierarchies: Hierarchies,
}

impl Pod {
    /// Has the pod's systemd stop the apps in order, and waits until the pod is gone.
    ///
    /// systemd is asked, and not nspawn, which kills the pod when it is asked for a second time, and which may have been
    /// killed itself.
    fn halt(&self) -> Result<()> {
        // systemd runs commands after the end of apps, and each is put into the app's cgroup.
        let hierarchies = self.hierarchies.clone();
        std::thread::spawn(move || hierarchies.warm_up());
        let deadline = Instant::now() + PATIENCE;
        let init = loop {
            // First: who was alive and has no PID 1 is looked at again.
            let alive = self.is_alive()?;
            if let Some(init) = supervisor::listening_init(self.processes()?)? {
                break init;
            }
            if !alive {
                return Ok(());
            }
            self.wait_a_moment(deadline).context(ADVICE)?;
        };
        // Found while it is sure to be there. It frees what the host has of the pod, and holds the lock so long.
        let supervisor = supervisor::of_pod(&self.dir, &self.uuid)?;
        signal(&init, common::sys::halt_signal())?;
        supervisor::wait(&init, None)?;
        if let Some(supervisor) = supervisor {
            supervisor::wait(&supervisor, Some(PATIENCE))?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive()? {
            self.wait_a_moment(deadline).context(ADVICE)?;
        }
        Ok(())
    }

    /// Kills every process of the pod, also those that only come while it starts.
    fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(cgroup) = supervisor::cgroup(&self.dir, &self.uuid)? {
                self.hierarchies.kill(&cgroup)?;
            }
            // nspawn is in a cgroup that is not the pod's where systemd made the pod's.
            if let Some(supervisor) = supervisor::of_pod(&self.dir, &self.uuid)? {
                signal(&supervisor, Signal::KILL)?;
                supervisor::wait(&supervisor, None)?;
            }
            if !self.is_alive()? {
                return Ok(());
            }
            self.wait_a_moment(deadline)?;
        }
    }

    /// Whether the pod starts, runs or ends. Its lock falls early when nspawn is killed.
    fn is_alive(&self) -> Result<bool> {
        let locked = lock::is_held(&self.lock).context("look at the lock of the pod directory")?;
        Ok(locked || !self.processes()?.is_empty())
    }

    fn processes(&self) -> Result<BTreeSet<i32>> {
        let cgroup = supervisor::cgroup(&self.dir, &self.uuid)?;
        Ok(cgroup.map_or_else(BTreeSet::new, |cgroup| self.hierarchies.processes(&cgroup)))
    }

    /// Waits for the end of the supervisor, and not for long.
    fn wait_a_moment(&self, deadline: Instant) -> Result<()> {
        if Instant::now() >= deadline {
            bail!(
                "the pod has neither started nor ended within {PATIENCE:?}: stop it with --force"
            );
        }
        match supervisor::of_pod(&self.dir, &self.uuid)? {
            Some(supervisor) => supervisor::wait(&supervisor, Some(LOOK_AGAIN)).map(drop),
            None => {
                std::thread::sleep(LOOK_AGAIN);
                Ok(())
            }
        }
    }
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(err) => Err(err).context("signal the pod"),
    }
}
