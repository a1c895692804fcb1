//! Which pods are in networks whose plugins know GC: the verb names all attachments that are in use, those of other pods
//! too. They are noted below `/run`, which like network namespaces does not outlive a reboot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::net::Version;
use common::pod::PodDir;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::call::{Caller, Verb};
use super::state::{Attachment, State};
use super::undo::Undone;
use crate::gc::absent;

/// The folder, from the host's root; in it one for each network.
const FOLDER: &str = "run/stage1/networks";
/// The file in a network's folder that is locked; attachments have a colon in their names.
const LOCK: &str = "lock";

/// A turn to change a network: of several pods at a time to come to it, or of one to clear it.
pub(super) struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        // Explicitly: a plugin that is being started elsewhere may have a copy of the descriptor for a moment.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn folder(network: &str) -> PathBuf {
    Path::new("/").join(FOLDER).join(network)
}

fn entry(attachment: &Attachment, container: &str) -> PathBuf {
    folder(&attachment.name).join(format!("{container}:{}", attachment.interface))
}

fn is_kept(attachment: &Attachment) -> bool {
    attachment.gc && attachment.version >= Version::GC
}

/// Notes that the pod comes to a network; nothing in networks without GC. The turn is kept until it has come.
pub(super) fn enter(attachment: &Attachment, container: &str) -> Result<Option<Turn>> {
    if !is_kept(attachment) {
        return Ok(None);
    }
    let folder = folder(&attachment.name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let turn = lock(&folder, FlockOperation::LockShared)?;
    let path = entry(attachment, container);
    File::create(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(turn)
}

/// Notes that the pod has left.
pub(super) fn leave(attachment: &Attachment, container: &str) -> Result<()> {
    if !is_kept(attachment) {
        return Ok(());
    }
    let path = entry(attachment, container);
    absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))
}

/// A turn; `None` when another one has it and it is not waited for.
fn lock(folder: &Path, operation: FlockOperation) -> Result<Option<Turn>> {
    let path = folder.join(LOCK);
    let context = || format!("lock {}", path.display());
    let file = File::create(&path).with_context(context)?;
    match flock(&file, operation) {
        Ok(()) => Ok(Some(Turn(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(err) => Err(err).with_context(context),
    }
}

impl Undone {
    /// Has the plugins of the pod's networks free what no pod uses (GC). A network that another pod comes to at this
    /// moment is left for the next time.
    ///
    /// # Errors
    /// What the first plugin says that fails.
    pub(crate) fn collect(&self, dir: &PodDir) -> Result<()> {
        let Some(state) = &self.0 else {
            return Ok(());
        };
        for attachment in state.attachments.iter().filter(|a| is_kept(a)) {
            collect(dir, state, attachment)
                .with_context(|| format!("network {}", attachment.name))?;
        }
        Ok(())
    }
}

fn collect(dir: &PodDir, state: &State, attachment: &Attachment) -> Result<()> {
    let folder = folder(&attachment.name);
    let Some(_turn) = lock(&folder, FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(());
    };
    let mut valid = Vec::new();
    for name in common::pod::names_in(&folder)? {
        if let Some((container, interface)) = name.split_once(':') {
            valid.push(json!({ "containerID": container, "ifname": interface }));
        }
    }
    let caller = Caller::new(dir, state);
    for step in &attachment.plugins {
        if !knows_gc(&caller, attachment, &step.program)? {
            continue;
        }
        let mut config = attachment.config(step, None);
        config.insert("cniVersion".into(), attachment.version.to_string().into());
        config.insert("cni.dev/valid-attachments".into(), valid.clone().into());
        caller.call(Verb::Gc, attachment, &step.program, &config)?;
    }
    Ok(())
}

/// Whether a plugin speaks a version of the protocol that has GC.
fn knows_gc(caller: &Caller<'_>, attachment: &Attachment, program: &str) -> Result<bool> {
    let version = attachment.version.to_string();
    let config = Map::from_iter([("cniVersion".to_owned(), Value::from(version))]);
    let answer = caller.call(Verb::Version, attachment, program, &config)?;
    let answer: Value =
        serde_json::from_slice(&answer).with_context(|| super::not_json(program, &answer))?;
    let versions = answer["supportedVersions"].as_array();
    let mut versions = versions.into_iter().flatten().filter_map(Value::as_str);
    Ok(versions.any(|version| version.parse().is_ok_and(|v: Version| v >= Version::GC)))
}
