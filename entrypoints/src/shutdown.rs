//! The last program of the pod: PID 1 becomes it when all apps have been stopped and its own work is done. In the image
//! it is what the path of `systemd-shutdown` leads to.
//!
//! It makes the journal complete and ends with the exit status of the pod, which systemd-nspawn passes on. The kernel
//! then kills what is left of the pod, journald last of all that logs: systemd's own program would stop journald first
//! and unmount the pod's file systems one by one, which go away with its mount namespace anyway.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::pod::StageRoot;
use common::status::{AppStatus, pod_exit_status};

use crate::journal;

/// Runs the program. The arguments, which say what a machine would do now and how to log, don't matter to a pod.
pub fn run(_: Vec<OsString>) -> Result<ExitCode> {
    if let Err(err) = journal::synchronize() {
        eprintln!("shutdown: {err:#}");
    }
    let status = exit_status(&StageRoot::new("/").statuses())?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// The status that the pod ends with, from the statuses of its apps in the folder `dir`.
fn exit_status(dir: &Path) -> Result<i32> {
    let mut apps = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("read {}", dir.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            apps.extend(AppStatus::read(&path)?);
        }
    }
    Ok(pod_exit_status(&apps))
}
