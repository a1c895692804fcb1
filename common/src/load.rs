//! A pod as stage0 left it: its manifest, and for each app the image and who it runs as.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::annotation;
use crate::appc::{Annotation, App, ImageManifest, PodManifest, RuntimeApp};
use crate::id_range::IdRange;
use crate::isolate::device::Device;
use crate::pod::PodDir;
use crate::policy::{self, AppPolicy, Credentials, ExitPolicy};
use crate::root::Root;
use crate::user::Identity;
use crate::volume::AppVolumes;

/// The longest argument that the kernel takes (`MAX_ARG_STRLEN` of execve(2), less its NUL), in bytes.
const ARG_MAX: usize = 32 * 4096 - 1;

/// A pod, loaded and checked.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its manifest.
    pub manifest: PodManifest,
    /// Its apps, in the manifest's order.
    pub apps: Vec<PodApp>,
    /// The sources of host volumes that are devices.
    pub devices: BTreeMap<PathBuf, Device>,
    /// Apps may come and go while it runs.
    pub mutable: bool,
    /// When it ends by itself, if its manifest says so.
    pub exit_policy: Option<ExitPolicy>,
    /// How large its journal may become, in bytes, if its manifest says so.
    pub journal_max_size: Option<u64>,
}

/// An app of a pod.
#[derive(Debug, Clone)]
pub struct PodApp {
    /// The app in the pod manifest.
    pub runtime: RuntimeApp,
    /// The app section that applies: the pod manifest's, else the image's.
    pub app: App,
    /// The manifest of its image.
    pub image: ImageManifest,
    /// Who it runs as.
    pub identity: Identity,
    /// How it is kept running and stopped.
    pub policy: AppPolicy,
    /// Whether it says when it is ready (sd_notify(3)).
    pub notifies: bool,
    /// The credentials that it gets.
    pub credentials: Credentials,
}

impl PodApp {
    /// The app's name.
    pub fn name(&self) -> &str {
        self.runtime.name.as_str()
    }

    /// Whether the image was converted from Docker's format (contract.md, `appc.io/docker/…`).
    pub fn converted(&self) -> bool {
        converted(&self.image)
    }

    /// What the plan of volumes needs of the app.
    pub fn volumes(&self) -> AppVolumes<'_> {
        AppVolumes {
            runtime: &self.runtime,
            app: &self.app,
            converted: self.converted(),
        }
    }

    /// The value of an annotation: the runtime app's, else the image's.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let of_runtime = crate::appc::annotation(&self.runtime.annotations, name);
        of_runtime.or_else(|| crate::appc::annotation(&self.image.annotations, name))
    }
}

impl Pod {
    /// Loads the pod in `dir`, whose ids are `users` when it has a user namespace. Nothing is changed.
    ///
    /// # Errors
    /// What is wrong with a manifest, an app's root or its user; the message names the file and the field.
    pub fn load(dir: &PodDir, users: Option<IdRange>) -> Result<Self> {
        Pod::with_apps(dir, users, |_| true)
    }

    /// Loads the pod in `dir` with one of its apps alone: what is wrong with another one is not this one's fault.
    ///
    /// # Errors
    /// As [`Pod::load`], and when the manifest has no such app.
    pub fn load_app(dir: &PodDir, app: &str, users: Option<IdRange>) -> Result<Self> {
        let pod = Pod::with_apps(dir, users, |runtime| runtime.name.as_str() == app)?;
        if pod.apps.is_empty() {
            bail!("{}: has no app {app}", dir.manifest().display());
        }
        Ok(pod)
    }

    fn with_apps(
        dir: &PodDir,
        users: Option<IdRange>,
        wanted: impl Fn(&RuntimeApp) -> bool,
    ) -> Result<Self> {
        let path = dir.manifest();
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let manifest =
            PodManifest::parse(&content).with_context(|| format!("read {}", path.display()))?;
        let exit_policy = ExitPolicy::of_pod(&manifest.annotations)?;
        let journal_max_size = policy::journal_max_size(&manifest.annotations)?;
        let mut apps = Vec::new();
        for (i, runtime) in manifest.apps.iter().enumerate() {
            if wanted(runtime) {
                let app = load_app(dir, runtime, users);
                apps.push(app.with_context(|| format!("apps[{i}] ({})", runtime.name))?);
            }
        }
        let devices = check_volume_sources(&manifest, wanted)?;
        let mutable = boolean(&[&manifest.annotations], annotation::MUTABLE)?;
        Ok(Pod {
            manifest,
            apps,
            devices,
            mutable,
            exit_policy,
            journal_max_size,
        })
    }
}

fn load_app(dir: &PodDir, runtime: &RuntimeApp, users: Option<IdRange>) -> Result<PodApp> {
    let name = runtime.name.as_str();
    let path = dir.app_image_manifest(name);
    let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let image =
        ImageManifest::parse(&content).with_context(|| format!("read {}", path.display()))?;
    let app = runtime.app.clone().or_else(|| image.app.clone());
    let app = app.context("app: neither the pod manifest nor the image's has an app section")?;
    if app.exec.is_empty() {
        bail!("app.exec: must not be empty");
    }
    for (i, arg) in app.exec.iter().enumerate() {
        if arg.contains('\0') {
            bail!("app.exec[{i}]: {arg:?}: must not have a NUL character");
        }
        if arg.len() > ARG_MAX {
            bail!(
                "app.exec[{i}]: must have at most {ARG_MAX} bytes, this has {}",
                arg.len()
            );
        }
    }
    let policy = AppPolicy::read(&runtime.annotations, &image.annotations)?;
    let credentials = Credentials::read(&policy.credentials)?;
    let both = [&runtime.annotations, &image.annotations];
    let notifies = boolean(&both, annotation::SUPPORTS_SYSTEMD_NOTIFY)?;
    let path = dir.stage_root().app_root(name);
    let root =
        Root::open(&path).with_context(|| format!("open the app's root {}", path.display()))?;
    let identity = Identity::of_app(&app, &root, users, converted(&image))?;
    Ok(PodApp {
        runtime: runtime.clone(),
        app,
        image,
        identity,
        policy,
        notifies,
        credentials,
    })
}

/// The first annotation of that name, which is true or false, and false when there is none.
fn boolean(annotations: &[&Vec<Annotation>], name: &str) -> Result<bool> {
    let mut lists = annotations.iter();
    let Some(value) = lists.find_map(|list| crate::appc::annotation(list, name)) else {
        return Ok(false);
    };
    value
        .parse()
        .ok()
        .with_context(|| format!("annotations: {name}: {value:?} must be true or false"))
}

fn converted(image: &ImageManifest) -> bool {
    crate::appc::annotation(&image.annotations, annotation::DOCKER_REPOSITORY).is_some()
}

/// The specification demands an error for a host volume whose source is missing. Gives those that are devices.
fn check_volume_sources(
    manifest: &PodManifest,
    wanted: impl Fn(&RuntimeApp) -> bool,
) -> Result<BTreeMap<PathBuf, Device>> {
    let own = manifest
        .volumes
        .iter()
        .enumerate()
        .map(|(i, v)| (format!("volumes[{i}]"), v));
    let apps = manifest.apps.iter().enumerate();
    let of_apps = apps.filter(|(_, app)| wanted(app)).flat_map(|(a, app)| {
        let mounts = app.mounts.iter().enumerate();
        mounts.filter_map(move |(m, mount)| {
            Some((
                format!("apps[{a}].mounts[{m}].appVolume"),
                mount.app_volume.as_ref()?,
            ))
        })
    });
    let mut devices = BTreeMap::new();
    for (field, volume) in own.chain(of_apps) {
        if let Some(source) = &volume.source {
            let found = fs::metadata(Path::new(source))
                .with_context(|| format!("{field}.source: {source}"))?;
            devices.extend(Device::of(&found).map(|device| (source.into(), device)));
        }
    }
    Ok(devices)
}
