//! Changes the apps of a running pod (contract.md, "What adding an app does in stage0", "Locking").
//!
//! A change holds `pod.lck`, and begins by completing what a killed one has left, which a file of the pod directory tells. So
//! whoever is killed at any point leaves a pod in which the next command works.
//!
//! Starts and stops take no lock, as the contract has it.

mod add;
mod begun;
mod cross;
mod manifest;
mod remove;
mod running;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use common::appc::PodManifest;
use common::pod::PodDir;

use super::lock::Lock;
use cross::Crossing;

pub use add::Addition;
pub(super) use begun::{Begun, Verb};
pub use cross::crossing;
pub use running::RunningPod;

/// Whether an app that runs is ended by force, or ended at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Force(pub bool);

/// The right to change a pod.
#[derive(Debug)]
pub struct Change<'p> {
    pod: RunningPod<'p>,
    lock: Lock,
}

impl<'p> Change<'p> {
    /// Waits for other changes of the pod, and completes one that was left half done.
    pub fn begin(pod: RunningPod<'p>) -> Result<Self> {
        let lock = Lock::of_file(&pod.dir.manifest_lock())?;
        // It may have ended while another change was waited for.
        let pod = pod.again()?;
        let mut change = Self { pod, lock };
        change.complete()?;
        Ok(change)
    }

    fn dir(&self) -> &PodDir {
        &self.pod.dir
    }

    fn manifest(&self) -> &PodManifest {
        &self.pod.manifest.content
    }

    /// Calls an entrypoint that keeps the lock, should this process be killed before it has ended.
    fn cross(&self, entrypoint: &str, args: &[String]) -> Result<()> {
        Crossing::of(&self.pod)
            .locked(&self.lock)
            .call(entrypoint, args)
    }

    /// Completes a change that was left half done.
    fn complete(&mut self) -> Result<()> {
        for file in [self.dir().manifest(), self.dir().change()] {
            remove::delete_unfinished(&file)?;
        }
        let Some(Begun { app, .. }) = Begun::read(self.dir())? else {
            return Ok(());
        };
        let uuid = self.pod.uuid.clone();
        self.clear(app.as_str()).with_context(|| {
            format!("clear app {app} of pod {uuid}, left half done by another command")
        })
    }
}

/// Deletes a file if it is there.
fn delete_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("delete {}", file.display()))
        }
        _ => Ok(()),
    }
}
