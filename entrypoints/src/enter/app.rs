//! The app that is entered: what it is confined to, as `init` has written it down for the app's own start.

use anyhow::{Context, Result, bail};
use common::appc::AcName;
use common::env::Environment;
use common::spec::AppSpec;

use super::pod::Pod;

/// An app.
pub(super) struct App {
    /// Its name.
    pub(super) name: String,
    /// What it is confined to, its root and its working directory.
    pub(super) spec: AppSpec,
    /// Its environment.
    pub(super) environment: Environment,
    /// The compiled filter of the pod.
    pub(super) pod_filter: Vec<u8>,
    /// Its own compiled filter, if it has one.
    pub(super) filter: Option<Vec<u8>>,
}

impl App {
    /// Reads what the pod has of the app `name`.
    pub(super) fn load(pod: &Pod, name: &str) -> Result<Self> {
        let valid: Result<AcName, _> = name.parse();
        let paths = pod.paths();
        let spec = match valid
            .ok()
            .and_then(|_| pod.read(&paths.spec(name)).transpose())
        {
            Some(spec) => spec?,
            None => bail!("--appname={name}: the pod has no such app"),
        };
        let mut spec: AppSpec = serde_json::from_slice(&spec)
            .with_context(|| format!("read {} of the pod", paths.spec(name).display()))?;
        let status = pod
            .process(1)?
            .status()
            .context("read what PID 1 of the pod is")?;
        let bounding = status
            .capbnd
            .context("the kernel does not tell the bounding set of PID 1")?;
        spec.confinement.bound_by(bounding)?;
        let needed = |path: std::path::PathBuf| {
            let content = pod.read(&path)?;
            content.with_context(|| format!("read {} of the pod: there is none", path.display()))
        };
        let environment = String::from_utf8(needed(paths.env(name))?)
            .map_err(anyhow::Error::from)
            .and_then(|content| Environment::from_file(&content))
            .with_context(|| format!("read {} of the pod", paths.env(name).display()))?;
        let pod_filter = match pod.read(&paths.pod_filter())? {
            Some(own) => own,
            None => needed(paths.default_pod_filter())?,
        };
        let filter = spec
            .confinement
            .seccomp
            .then(|| needed(paths.seccomp(name)));
        Ok(App {
            filter: filter.transpose()?,
            name: name.to_owned(),
            environment,
            pod_filter,
            spec,
        })
    }
}
