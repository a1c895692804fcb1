//! Stops the pod in the working directory and waits until it is gone.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::cgroup::Hierarchies;
use common::flags::{self, Flag, switch};
use common::pod::{PodDir, machine_name};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::{print_help, supervisor, uuid};

const FLAGS: [Flag; 2] = [
    switch("force", "kill every process of the pod"),
    switch("debug", "accepted, for stage0s that pass it"),
];
/// How long a pod may be without a PID 1 that can be told to halt, while it starts or ends.
const START_TIME: Duration = Duration::from_secs(60);
const USAGE: &str = "stop [OPTIONS] UUID";
const ABOUT: &str =
    "Stops the pod in the working directory: its apps in order, or all at once with --force.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let uuid = uuid(&flags.rest)?;
    let dir = PodDir::new(".");
    let supervisor = supervisor::of_pod(&dir, &uuid)?;
    let cgroup = pod_cgroup(&dir, &uuid)?;
    if flags.is_set("force") {
        kill(supervisor, cgroup.as_deref())?;
    } else {
        halt(supervisor, cgroup.as_deref())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the pod's systemd stop the apps in order, and waits until the pod is gone.
///
/// systemd is asked, and not nspawn, which kills the pod when it is asked for a second time, and which may have been
/// killed itself.
fn halt(supervisor: Option<OwnedFd>, cgroup: Option<&Path>) -> Result<()> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    let hierarchies = Hierarchies::read(Path::new("/proc"))?;
    let deadline = Instant::now() + START_TIME;
    let init = loop {
        if let Some(init) = supervisor::listening_init(hierarchies.processes(cgroup))? {
            break init;
        }
        // No PID 1 yet, or none any more: the supervisor knows which.
        let Some(supervisor) = &supervisor else {
            return Ok(());
        };
        if supervisor::wait(supervisor, Some(supervisor::LOOK_AGAIN))? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the pod does not start or end within {START_TIME:?}: stop it with --force");
        }
    };
    signal(&init, common::sys::halt_signal())?;
    supervisor::wait(&init, None)?;
    if let Some(supervisor) = &supervisor {
        supervisor::wait(supervisor, None)?;
    }
    Ok(())
}

/// Kills every process of the pod.
fn kill(supervisor: Option<OwnedFd>, cgroup: Option<&Path>) -> Result<()> {
    if let Some(cgroup) = cgroup {
        Hierarchies::read(Path::new("/proc"))?.kill(cgroup)?;
    }
    // nspawn is in a cgroup that is not the pod's where systemd made the pod's.
    if let Some(supervisor) = supervisor {
        signal(&supervisor, Signal::KILL)?;
        supervisor::wait(&supervisor, None)?;
    }
    Ok(())
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(err) => Err(err).context("signal the pod"),
    }
}

/// The cgroup of the pod, as its directory names it; `None` when it never had one.
///
/// # Errors
/// When what the file names is not a cgroup of this pod: nothing else may be killed or removed.
pub(crate) fn pod_cgroup(dir: &PodDir, uuid: &Uuid) -> Result<Option<PathBuf>> {
    let file = dir.subcgroup();
    let content = match fs::read_to_string(&file) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        content => content.with_context(|| format!("read {}", file.display()))?,
    };
    let path = PathBuf::from(content.trim_end());
    let machine = machine_name(uuid.as_str());
    let scope = format!(
        "machine-{}.scope",
        common::unit::escape::unit_name(&machine)
    );
    let plain = path
        .components()
        .all(|c| !matches!(c, std::path::Component::ParentDir));
    let own = path
        .file_name()
        .is_some_and(|name| name == machine.as_str() || name == scope.as_str());
    if !path.is_absolute() || !plain || !own {
        bail!(
            "{}: {content:?} is not a cgroup of this pod",
            file.display()
        );
    }
    Ok(Some(path))
}
