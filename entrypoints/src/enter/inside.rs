//! The process that enters: goes into the pod step by step, and becomes the command.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::confine::Confinement;
use common::env::{DEFAULT_PATH, Environment};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::Pid;

use super::app::App;
use super::pod::Pod;
use super::scheduling::Scheduling;
use super::target::{Running, Target};
use super::{stopped, terminal};
use crate::prepare_app::execute::{self, Failure};

/// Exit statuses of a shell for a command that is not there or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What is entered, and what for.
pub(super) struct Inside<'a> {
    pub(super) pod: &'a Pod,
    pub(super) app: Option<&'a App>,
    pub(super) target: Target,
    /// The command.
    pub(super) words: &'a [String],
}

impl Inside<'_> {
    /// Becomes the command. Returns only when that fails.
    pub(super) fn run(self, terminal: Option<terminal::Inside>) -> Result<ExitCode> {
        common::sys::default_signals().context("take the default for all signals")?;
        // A session of its own: no terminal of the host can be opened or given signals through /dev/tty.
        rustix::process::setsid().context("make a session")?;
        match &self.target {
            Target::Pod => {
                self.pod.join_cgroups()?;
                join(&self.pod.init).context("join the pod's namespaces")?;
            }
            Target::Running(running) => self.join_app(running)?,
            Target::Stopped => self.join_pod()?,
        }
        become_root()?;
        if let (Some(app), Target::Stopped) = (self.app, &self.target) {
            stopped::join(app)?;
        }
        common::sys::new_session_keyring().context("leave the keys of the caller")?;
        let uid = self.app.map_or(0, |app| app.spec.confinement.uid);
        if let Some(terminal) = terminal {
            terminal.take(uid).context("make a terminal in the pod")?;
        }
        let failure = match self.app {
            None => self.become_of_pod()?,
            Some(app) => self.become_of_app(app)?,
        };
        eprintln!(
            "enter: execute {}: {}",
            failure.path.display(),
            failure.error
        );
        let missing = failure.error.kind() == ErrorKind::NotFound;
        Ok(ExitCode::from(if missing {
            NOT_FOUND
        } else {
            NOT_EXECUTABLE
        }))
    }

    /// Goes where PID 1 of the pod is, and takes over what the apps, which it starts, have from it.
    fn join_pod(&self) -> Result<()> {
        let cgroups = self.pod.cgroups(1)?;
        let scheduling = Scheduling::of(Pid::INIT, &self.pod.process(1)?);
        cgroups.join().context("join the pod's cgroups")?;
        let scheduling = scheduling.context("look at PID 1 of the pod")?;
        scheduling.take()?;
        join(&self.pod.init).context("join the pod's namespaces")
    }

    /// Goes where the app's main process is, and takes over what a child of it would inherit. What is done by paths of
    /// the host comes first: the app's own `/proc` and `/sys` may be anything.
    fn join_app(&self, running: &Running) -> Result<()> {
        let (main, scheduling) = running.open()?;
        running.cgroups.join().context("join the app's cgroups")?;
        scheduling.take()?;
        running.likeness.take()?;
        if let Some(app) = self.app {
            let confinement = labelled(&app.spec.confinement, running.likeness.label());
            confinement.ask_for_label(Path::new("/proc"))?;
        }
        join(&main).context("join the app's namespaces")
    }

    fn become_of_pod(&self) -> Result<Failure> {
        std::env::set_current_dir("/").context("change to the pod's root")?;
        let mut environment = Environment::default();
        environment.set("PATH", DEFAULT_PATH);
        self.execute(environment, || Ok(()))
    }

    fn become_of_app(&self, app: &App) -> Result<Failure> {
        let confinement = &app.spec.confinement;
        // The app's processes have the pod's filter from its PID 1.
        common::sys::load_seccomp(&app.pod_filter).context("load the pod's system call filter")?;
        confinement
            .take_identity()
            .context("take on the app's identity")?;
        let directory = &app.spec.working_directory;
        std::env::set_current_dir(directory)
            .with_context(|| format!("change to the working directory {directory}"))?;
        self.execute(app.environment.clone(), || {
            confinement.seal(app.filter.as_deref())
        })
    }

    /// Executes the command in the environment, to which the type of the caller's terminal is added.
    fn execute(
        &self,
        mut environment: Environment,
        seal: impl FnOnce() -> Result<()>,
    ) -> Result<Failure> {
        if let Ok(term) = std::env::var("TERM") {
            environment.set("TERM", &term);
        }
        match execute::find(self.words, &environment) {
            Ok(path) => execute::execute(path, self.words, &environment, seal),
            Err(failure) => Ok(failure),
        }
    }
}

/// The confinement with the label of the app's main process, where no manifest names one: it is the pod's then.
fn labelled(confinement: &Confinement, label: Option<&str>) -> Confinement {
    let mut confinement = confinement.clone();
    let none = confinement.selinux.is_none() && confinement.apparmor.is_none();
    if let (Some(label), true) = (label, none) {
        if Path::new("/sys/fs/selinux/enforce").exists() {
            confinement.selinux = Some(label.trim_end_matches('\0').to_owned());
        } else {
            // "PROFILE (MODE)"
            let profile = label.split(" (").next().unwrap_or(label);
            confinement.apparmor = Some(profile.trim_end().to_owned());
        }
    }
    confinement
}

/// Moves this process into all namespaces of another that differ from its own. The PID namespace it is born in.
fn join(process: &OwnedFd) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    // With the user namespace first; joining the one that the process is in already is an error (setns(2)).
    match setns(process, namespaces | CloneFlags::CLONE_NEWUSER) {
        Err(nix::errno::Errno::EINVAL) => setns(process, namespaces)?,
        joined => joined?,
    }
    Ok(())
}

/// Becomes root of the user namespace: root of the host is nobody in one of another range.
fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).context("leave the supplementary groups")?;
    setresgid(gid, gid, gid).context("become root's group")?;
    setresuid(uid, uid, uid).context("become root")
}
