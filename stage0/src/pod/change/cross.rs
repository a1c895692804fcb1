//! Calls entrypoints that work on a running pod from within (contract.md, "Crossing entrypoints").

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use common::annotation::entrypoint;
use common::pod::PodDir;

use super::RunningPod;
use crate::pod::entrypoint::Stage1;
use crate::pod::lock::Lock;

/// Where programs are looked for when the caller has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A way into a running pod.
#[derive(Debug)]
pub(super) struct Crossing<'a> {
    pod: &'a RunningPod<'a>,
    lock: Option<&'a Lock>,
}

/// An entrypoint has failed.
#[derive(Debug)]
pub(super) struct Failure {
    text: String,
    /// It was killed, and may have left its work half done.
    pub(super) killed: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl<'a> Crossing<'a> {
    /// Into this pod.
    pub(super) fn of(pod: &'a RunningPod<'a>) -> Self {
        Self { pod, lock: None }
    }

    /// Has entrypoints keep the lock: one that goes on when stage0 is killed keeps others from the pod until it has ended.
    pub(super) fn locked(mut self, lock: &'a Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Calls an entrypoint. What it says is passed on; its last line is the error when it fails.
    pub(super) fn call(&self, annotation: &str, args: &[String]) -> Result<()> {
        let RunningPod {
            stage1, dir, pid, ..
        } = self.pod;
        let mut command = crossing(stage1, dir, *pid, annotation)?;
        command.args(args).stdin(Stdio::null());
        if self.pod.debug {
            command.arg("--debug=true");
        }
        if let Some(lock) = self.lock {
            lock.inherit()?;
        }
        let output = command.output();
        if let Some(lock) = self.lock {
            lock.disinherit();
        }
        let output = output.with_context(|| format!("execute {:?}", command.get_program()))?;
        let name = annotation.rsplit("stage1/").next().unwrap_or(annotation);
        judge(name, &output)
    }
}

/// How to call an entrypoint of this kind for the running pod in `dir`, whose PID 1 is `pid`.
pub fn crossing(stage1: &Stage1, dir: &PodDir, pid: i32, annotation: &str) -> Result<Command> {
    let enter = stage1.command(dir, entrypoint::ENTER)?;
    let mut command = stage1.command(dir, annotation)?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    command
        .env_clear()
        .env("RKT_STAGE1_ENTERCMD", enter.get_program())
        .env("RKT_STAGE1_ENTERPID", pid.to_string())
        .env("PATH", path);
    Ok(command)
}

/// Passes on what an entrypoint has said, except the reason of its failure.
fn judge(name: &str, output: &Output) -> Result<()> {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let reason = match output.status.success() {
        true => None,
        false => lines.pop(),
    };
    for line in lines {
        // Without standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    if output.status.success() {
        return Ok(());
    }
    let killed = output.status.code().is_none();
    let text = match reason {
        Some(reason) if !killed => reason.to_owned(),
        Some(reason) => format!(
            "{name} entrypoint of its stage1: {}: {reason}",
            output.status
        ),
        None => format!("{name} entrypoint of its stage1: {}", output.status),
    };
    Err(Failure { text, killed }.into())
}
