//! Changes the apps of a running pod (contract.md, "What adding an app does in stage0", "Locking").
//!
//! A change holds `pod.lck`, and begins by completing what a killed one has left. That shows in the files that stage0
//! keeps of each app: an app that is being added has the marker `adding` there, and one that is being removed the marker
//! `removing`; files of an app that the manifest does not name are those of an addition that came not far. So whoever is
//! killed at any point leaves a pod in which the next command works.
//!
//! Starts and stops take no lock, as the contract has it.

mod add;
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
pub use cross::crossing;
pub use running::RunningPod;

/// Marker among stage0's files of an app: its addition has begun and not ended.
pub const ADDING: &str = "adding";

/// The same for its removal.
const REMOVING: &str = "removing";

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

    /// Completes changes that were left half done.
    fn complete(&mut self) -> Result<()> {
        remove::delete_unfinished(&self.dir().manifest())?;
        for app in self.known_apps()? {
            let info = self.dir().app_info(&app);
            let half = [ADDING, REMOVING].iter().any(|m| info.join(m).exists());
            if half || self.manifest().app(&app).is_none() {
                let uuid = self.pod.uuid.clone();
                self.clear(&app).with_context(|| {
                    format!("clear app {app} of pod {uuid}, left half done by another command")
                })?;
            }
        }
        Ok(())
    }

    /// The apps of which stage0 keeps files.
    fn known_apps(&self) -> Result<Vec<String>> {
        let dir = self.dir().apps_info();
        let context = || format!("read {}", dir.display());
        let mut apps = Vec::new();
        for entry in fs::read_dir(&dir).with_context(context)? {
            let name = entry.with_context(context)?.file_name();
            apps.extend(name.into_string().ok());
        }
        apps.sort();
        Ok(apps)
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
