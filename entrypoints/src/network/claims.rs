//! Which ports of the host lead to which pods. They are noted below `/run`, which like the rules of plugins does not outlive
//! a reboot: so a pod is told when a port leads to another one, and takes over those of pods that have ended. The rules of
//! such a pod are there until gc comes, and would win.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use common::apply::write_whole;
use common::cgroup::Hierarchies;
use common::net::{Forward, conflict};
use common::pod::{PodDir, names_in};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::state::{Attachment, State};
use super::undo::detach;
use crate::gc::absent;

/// The folder, from the host's root; in it a file for each pod, and each app that was added to one, to which ports lead.
const FOLDER: &str = "run/stage1/ports";
/// The file in the folder that is locked; pods have a dash in their names.
const LOCK: &str = "lock";
/// The plugin that is known to do nothing but to forward ports: what it does for a pod may be undone before the rest.
pub(super) const PORTMAP: &str = "portmap";

/// The ports of a pod or of an app.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    /// The pod's cgroup, in which processes are as long as it lives.
    cgroup: PathBuf,
    forwards: Vec<Forward>,
    /// The pod's networks, as far as they forward the ports.
    state: State,
}

/// The right to read and change what is noted.
pub(super) struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        // Explicitly: a plugin that is being started elsewhere may have a copy of the descriptor for a moment.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn folder() -> PathBuf {
    Path::new("/").join(FOLDER)
}

fn lock(folder: &Path) -> Result<Turn> {
    let path = folder.join(LOCK);
    let context = || format!("lock {}", path.display());
    let file = File::create(&path).with_context(context)?;
    flock(&file, FlockOperation::LockExclusive).with_context(context)?;
    Ok(Turn(file))
}

/// Notes the ports that `attachment` is to lead to the pod, or the app, that has the cgroup.
///
/// # Errors
/// When one leads to another pod that lives.
pub(super) fn claim(
    dir: &PodDir,
    state: &State,
    attachment: &Attachment,
    ports: (&Path, Vec<Forward>),
) -> Result<()> {
    let (cgroup, forwards) = ports;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let _turn = lock(&folder)?;
    let own = attachment.container(&state.container);
    make_way(dir, &folder, &own, &forwards, &state.folders)?;
    let mut part = attachment.clone();
    part.plugins.retain(|step| step.program == PORTMAP);
    part.called = part.plugins.len();
    let claim = Claim {
        cgroup: cgroup.to_owned(),
        forwards,
        state: State {
            attachments: vec![part],
            ..state.clone()
        },
    };
    let path = folder.join(&own);
    write_whole(&path, &serde_json::to_vec(&claim)?, 0o600)
        .with_context(|| format!("write {}", path.display()))
}

/// Looks at what others have noted: of a pod that lives it is an error, that of one that has ended is undone.
fn make_way(
    dir: &PodDir,
    folder: &Path,
    own: &str,
    forwards: &[Forward],
    plugins: &[PathBuf],
) -> Result<()> {
    let others = names_in(folder)?.into_iter();
    for name in others.filter(|name| name != LOCK && name != own) {
        let path = folder.join(&name);
        let remove =
            || absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()));
        if name.contains('.') {
            // Half of a note, of a process that was killed: nobody else writes one now.
            remove()?;
            continue;
        }
        let other = read(&path)?;
        let mut met = forwards.iter();
        let met = met.find_map(|new| Some((new, conflict(&other.forwards, new)?)));
        let Some((new, old)) = met else { continue };
        if is_alive(&other.cgroup)? {
            let (port, name, pod) = (&new.name, &old.name, &other.state.container);
            bail!("port {port}: {new} leads to port {name} of pod {pod} already");
        }
        clear(dir, &other, plugins)
            .and_then(|()| remove())
            .with_context(|| format!("take over {new} from a pod that has ended"))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Claim> {
    let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))
}

fn is_alive(cgroup: &Path) -> Result<bool> {
    let hierarchies = Hierarchies::read(Path::new("/proc"))?;
    Ok(!hierarchies.processes(cgroup).is_empty())
}

/// Undoes the forwarding of a pod that has ended. What its gc undoes once more is no error there.
fn clear(dir: &PodDir, claim: &Claim, plugins: &[PathBuf]) -> Result<()> {
    let state = State {
        folders: plugins.to_owned(),
        ..claim.state.clone()
    };
    let caller = Caller::new(dir, &state);
    state
        .attachments
        .iter()
        .try_for_each(|attachment| detach(&caller, attachment))
}

/// Waits until nobody takes over the ports of these pods or apps; nothing to wait for without any.
pub(super) fn enter(containers: &[String]) -> Result<Option<Turn>> {
    let folder = folder();
    let noted = |container: &String| folder.join(container).symlink_metadata().is_ok();
    if !containers.iter().any(noted) {
        return Ok(None);
    }
    lock(&folder).map(Some)
}

/// Notes that no port leads to the pod or app any more.
pub(super) fn leave(container: &str) -> Result<()> {
    let path = folder().join(container);
    absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))
}
