//! Calling entrypoints, with exactly the environment, descriptors and arguments that the contract gives them.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{FlockOperation, flock};

use super::pod::Pod;
use crate::process::{Finished, Running};
use crate::wait;

/// The descriptor number under which the run entrypoint gets the lock.
const LOCK_FD: i32 = 9;

/// A way to call an entrypoint: from the pod's directory, or from the stage1 tree in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `stage1/rootfs/PATH`.
    OfPod,
    /// As an existing rkt calls enter.
    OfStore,
}

/// A pod that is being run.
pub struct Run {
    /// The run process.
    pub process: Running,
}

impl Pod {
    /// The path of an entrypoint, from the annotation of the stage1 manifest.
    fn entrypoint(&self, name: &str, call: Call) -> Result<PathBuf> {
        let manifest = fs::read_to_string(self.dir().join("stage1/manifest"))
            .context("read stage1/manifest")?;
        ensure!(
            manifest == self.stage1.manifest,
            "the stage1 manifest is changed"
        );
        let path = self
            .stage1
            .annotation(&format!("coreos.com/rkt/stage1/{name}"))?;
        let path = path.trim_start_matches('/');
        Ok(match call {
            Call::OfPod => PathBuf::from("stage1/rootfs").join(path),
            Call::OfStore => self.stage1.rootfs.join(path),
        })
    }

    /// An entrypoint with arguments, in the pod directory.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        name: &str,
        call: Call,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        let mut command = Command::new(self.entrypoint(name, call)?);
        command.args(words).current_dir(self.dir());
        Ok(command)
    }

    /// The run entrypoint with options; the UUID comes last.
    pub fn run_command(&self, options: &[&str]) -> Result<Command> {
        let mut command = self.command("run", Call::OfPod, options)?;
        command
            .arg(&self.uuid)
            .env("RKT_LOCK_FD", LOCK_FD.to_string())
            .env("RKT_SELINUX_CONTEXT", "")
            .env("RKT_SELINUX_MOUNT_CONTEXT", "")
            .env("LEAKED_FROM_THE_CALLER", "1");
        Ok(command)
    }

    /// Locks the directory and starts the run entrypoint, which alone holds the lock from then on.
    pub fn start(&self, options: &[&str]) -> Result<Run> {
        let command = self.run_command(options)?;
        let process = Running::start_prepared(command, Stdio::null(), |command| {
            let lock = self.open()?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive).context("lock the pod")?;
            command.fd_mappings(vec![FdMapping {
                parent_fd: lock.into(),
                child_fd: LOCK_FD,
            }])?;
            Ok(())
        })?;
        Ok(Run { process })
    }

    /// Runs the pod to its end.
    pub fn run(&self, options: &[&str]) -> Result<Finished> {
        self.start(options)?.process.finish()
    }

    /// Whether somebody holds the lock.
    pub fn is_locked(&self) -> Result<bool> {
        let dir = self.open()?;
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Not only closed: a child that is being forked may have a copy.
                flock(&dir, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error).context("try the lock"),
        }
    }

    /// Waits until the lock falls: returns in that moment, not when the run process is reaped.
    pub fn wait_unlocked(&self) -> Result<()> {
        let dir = self.open()?;
        flock(&dir, FlockOperation::LockExclusive).context("wait for the lock")?;
        flock(&dir, FlockOperation::Unlock).context("unlock")
    }

    /// The gc entrypoint with options.
    pub fn gc(&self, options: &[&str]) -> Result<Finished> {
        self.call("gc", options)
    }

    /// The stop entrypoint with options.
    pub fn stop(&self, options: &[&str]) -> Result<Finished> {
        self.call("stop", options)
    }

    fn call(&self, name: &str, options: &[&str]) -> Result<Finished> {
        let words = options.iter().copied().chain([self.uuid.as_str()]);
        crate::process::run(self.command(name, Call::OfPod, words)?)
    }

    /// The pid of the pod's PID 1, as the files of the pod directory lead to it.
    pub fn pid1(&self) -> Result<i32> {
        let dir = self.dir();
        if let Ok(pid) = fs::read_to_string(dir.join("pid")) {
            return Ok(pid.trim().parse()?);
        }
        let ppid: i32 = fs::read_to_string(dir.join("ppid"))
            .context("read ppid")?
            .trim()
            .parse()
            .context("ppid")?;
        let children = fs::read_to_string(format!("/proc/{ppid}/task/{ppid}/children"))
            .context("children of ppid")?;
        let children: Vec<_> = children.split_whitespace().collect();
        ensure!(
            children.len() == 1,
            "process {ppid} of ppid has the children {children:?}"
        );
        Ok(children[0].parse()?)
    }

    /// Enters as stage0 does for a user: with the caller's environment and streams.
    pub fn enter(&self, call: Call, options: &[&str], program: &[&str]) -> Result<Command> {
        let pid = format!("--pid={}", self.pid1()?);
        let words = [pid.as_str()]
            .into_iter()
            .chain(options.iter().copied())
            .chain(["--"])
            .chain(program.iter().copied());
        self.command("enter", call, words)
    }

    /// Runs a program in the pod by the crossing protocol: the environment holds the protocol's variables and nothing
    /// else, stdin is /dev/null, output is a pipe that is read to its end.
    pub fn cross(&self, app: Option<&str>, program: &[&str]) -> Result<Finished> {
        let enter = self.dir().join(self.entrypoint("enter", Call::OfPod)?);
        let pid = self.pid1()?;
        let mut command = Command::new(&enter);
        command.current_dir(self.dir()).arg(format!("--pid={pid}"));
        self.crossing(&mut command)?;
        if let Some(app) = app {
            command
                .env("RKT_STAGE1_ENTERAPP", app)
                .arg(format!("--appname={app}"));
        }
        command.arg("--").args(program);
        crate::process::run(command)
    }

    /// The environment of the crossing protocol.
    fn crossing(&self, command: &mut Command) -> Result<()> {
        command
            .env_clear()
            .env(
                "RKT_STAGE1_ENTERCMD",
                self.dir().join(self.entrypoint("enter", Call::OfPod)?),
            )
            .env("RKT_STAGE1_ENTERPID", self.pid1()?.to_string())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(())
    }

    /// A crossing entrypoint that is about an app, ready to be started.
    pub fn app_command(&self, name: &str, app: &str, options: &[&str]) -> Result<Command> {
        let app = format!("--app={app}");
        let uuid = format!("--uuid={}", self.uuid);
        // As an existing rkt gives them.
        let mut words = vec!["--debug=false"];
        words.extend((name == "app/add").then_some(uuid.as_str()));
        words.push(&app);
        words.extend(options);
        let mut command = self.command(name, Call::OfPod, words)?;
        self.crossing(&mut command)?;
        Ok(command)
    }

    /// Calls a crossing entrypoint that is about an app.
    pub fn app(&self, name: &str, app: &str, options: &[&str]) -> Result<Finished> {
        crate::process::run(self.app_command(name, app, options)?)
    }

    /// Waits until `rkt/supervisor-status` says that the pod is up.
    pub fn wait_ready(&self) -> Result<()> {
        let link = self.root().join("rkt/supervisor-status");
        wait::for_file(&link, Some(crate::process::BOUND), |link| {
            fs::read_link(link).is_ok_and(|target| target.as_os_str() == "ready")
        })
    }
}
