//! An app that is added to a pod that runs already, planned by the same code as the apps that a pod starts with.

use anyhow::{Context, Result, bail};

use super::{Inputs, Step, app, files, volume_steps};
use crate::listen;
use crate::load::PodApp;
use crate::pod::PodDir;
use crate::volume::{PodVolume, Volumes};

/// An app, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedApp {
    /// What is written, in order.
    pub steps: Vec<Step>,
    /// What is mounted in the pod, unless it is there already.
    pub volumes: Vec<PodVolume>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Plans the only app of `inputs.pod`, in the pod in `dir`.
///
/// # Errors
/// What the app asks for and cannot be given.
pub fn plan_added(dir: &PodDir, inputs: &Inputs<'_>) -> Result<AddedApp> {
    let [added] = inputs.pod.apps.as_slice() else {
        bail!("one app at a time");
    };
    let root = dir.stage_root();
    let volumes = Volumes::plan(&inputs.pod.manifest, [PodApp::volumes(added)])?;
    let network = &inputs.options.network;
    let sockets = listen::sockets(inputs.pod, network, &inputs.facts.caller.sockets)?;
    listen::check(&sockets, &inputs.existing.sockets, network)?;
    let planned = app::plan(&root, inputs, added, &volumes, &sockets)
        .with_context(|| format!("app {}", added.name()))?;
    let mut steps = planned.steps;
    steps.extend(files::accounts(&root, inputs));
    let new = |volume: &&PodVolume| !inputs.existing.volumes.contains(&volume.key);
    let made = volumes.volumes.iter().filter(new);
    steps.extend(volume_steps(dir, inputs, made)?);
    let mut warnings = volumes.warnings;
    warnings.extend(listen::warnings(inputs.pod, &inputs.options.network));
    warnings.extend(planned.warnings);
    Ok(AddedApp {
        steps,
        volumes: volumes.volumes,
        warnings,
    })
}
