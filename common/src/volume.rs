//! Which volumes a pod has and where its apps see them.
//!
//! A volume is mounted once in the pod, below [`crate::pod::StageRoot::volumes`], under its key; each app's mounts
//! are taken from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::appc::{AcName, App, MountPoint, PodManifest, RuntimeApp, Volume, VolumeKind};
use crate::pod::PodDir;
use crate::root::normal;
use crate::spec::VolumeMount;

/// Where no volume is mounted, nor below: what the App Container specification has there (OS-SPEC, Linux) is the
/// kernel's, and this project trusts `/proc` when it confines an app.
const RESERVED: [&str; 10] = [
    "/proc",
    "/dev/console",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// What a volume of the host may replace, and an empty one may not.
const NEVER_EMPTY: [&str; 2] = ["/dev", "/sys"];

/// The mode of an empty volume that names none (appc specification, "volumes").
const DEFAULT_MODE: u32 = 0o755;

/// A volume in the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    /// Its name in the pod: the volume's own; `APP.VOLUME` when it belongs to one app, `APP.implicit.MOUNT-POINT` when
    /// it was made for a mount point (names have no dot).
    pub key: String,
    /// Where its content is.
    pub source: Source,
    /// Whether no app may write to it.
    pub read_only: bool,
}

/// What is mounted for a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// A path of the host.
    pub path: PathBuf,
    /// Whether mounts below it come along.
    pub recursive: bool,
    /// Whether its files have the same owners in the pod as on the host.
    pub idmap: bool,
}

impl PodVolume {
    /// What is mounted for it in the pod whose directory this is.
    pub fn origin(&self, dir: &PodDir) -> Origin {
        match &self.source {
            Source::Host {
                path,
                recursive,
                idmap,
            } => Origin {
                path: path.clone(),
                recursive: *recursive,
                idmap: *idmap,
            },
            Source::Empty { .. } => Origin {
                path: dir.shared_volume(&self.key),
                recursive: true,
                idmap: false,
            },
        }
    }
}

/// Where a volume's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Host {
        /// The path.
        path: PathBuf,
        /// Whether mounts below it come along.
        recursive: bool,
        /// Whether its files have the same owners in the pod as on the host, user namespace or not.
        idmap: bool,
    },
    /// A new directory.
    Empty {
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// What it starts with: a path in the root of an app.
        filled_from: Option<(String, PathBuf)>,
    },
}

/// All volumes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// The volumes, in order of their keys.
    pub volumes: Vec<PodVolume>,
    /// What each app mounts, parents first.
    pub mounts: BTreeMap<AcName, Vec<VolumeMount>>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// An app and what the plan needs of its image.
#[derive(Debug, Clone, Copy)]
pub struct AppVolumes<'a> {
    /// The app in the pod manifest.
    pub runtime: &'a RuntimeApp,
    /// The app section that applies: the pod manifest's, else the image's.
    pub app: &'a App,
    /// Whether the image was converted from Docker's format: implicit volumes start with the image's files.
    pub converted: bool,
}

impl Volumes {
    /// Plans the volumes of `apps` in the pod `pod`.
    ///
    /// # Errors
    /// Two volumes on one path of an app, or a mount of a volume that does not exist.
    pub fn plan<'a>(
        pod: &PodManifest,
        apps: impl IntoIterator<Item = AppVolumes<'a>>,
    ) -> Result<Self> {
        let mut plan = Volumes::default();
        let mut used: BTreeMap<String, PodVolume> = BTreeMap::new();
        for app in apps {
            let mounts = app_mounts(pod, app, &mut used, &mut plan.warnings)
                .with_context(|| format!("app {}", app.runtime.name))?;
            plan.mounts.insert(app.runtime.name.clone(), mounts);
        }
        plan.volumes = used.into_values().collect();
        Ok(plan)
    }
}

fn app_mounts(
    pod: &PodManifest,
    app: AppVolumes<'_>,
    used: &mut BTreeMap<String, PodVolume>,
    warnings: &mut Vec<String>,
) -> Result<Vec<VolumeMount>> {
    let name = &app.runtime.name;
    let mut mounts = Vec::new();
    let mut add = |volume: PodVolume, path: &str, read_only: bool| {
        let target = target(path, &volume)?;
        if mounts.iter().any(|m: &VolumeMount| m.target == target) {
            bail!("two volumes are mounted at {target}");
        }
        if used.get(&volume.key).is_some_and(|known| *known != volume) {
            bail!("volume {} is given twice, with a difference", volume.key);
        }
        mounts.push(VolumeMount {
            volume: volume.key.clone(),
            target,
            read_only: read_only || volume.read_only,
        });
        used.insert(volume.key.clone(), volume);
        Ok(())
    };
    for mount in &app.runtime.mounts {
        let volume = match &mount.app_volume {
            Some(volume) => pod_volume(volume, format!("{name}.{}", volume.name))?,
            None => {
                let volume = pod.volumes.iter().find(|v| v.name == mount.volume);
                let volume =
                    volume.with_context(|| format!("there is no volume {}", mount.volume))?;
                pod_volume(volume, volume.name.to_string())?
            }
        };
        let point = app
            .app
            .mount_points
            .iter()
            .find(|p| normal(&p.path) == normal(&mount.path));
        add(volume, &mount.path, point.is_some_and(|p| p.read_only))?;
    }
    for point in &app.app.mount_points {
        if app
            .runtime
            .mounts
            .iter()
            .any(|m| normal(&m.path) == normal(&point.path))
        {
            continue;
        }
        let volume = match pod.volumes.iter().find(|v| v.name == point.name) {
            Some(volume) => pod_volume(volume, volume.name.to_string())?,
            None => {
                warnings.push(format!(
                    "app {name}: no volume for mount point {}, making an empty one that is removed with the pod",
                    point.name
                ));
                implicit(app, point)
            }
        };
        add(volume, &point.path, point.read_only)?;
    }
    mounts.sort_by_key(|m| Path::new(&m.target).components().count());
    Ok(mounts)
}

/// The path of a mount, normal.
fn target(path: &str, volume: &PodVolume) -> Result<String> {
    if !path.starts_with('/') {
        bail!("mount path {path:?} must be absolute");
    }
    let normal = normal(path);
    if normal == Path::new("/") {
        bail!("a volume cannot be mounted at the root of an app");
    }
    let reserved = RESERVED.iter().find(|path| normal.starts_with(path));
    let emptied = NEVER_EMPTY
        .iter()
        .find(|path| normal == Path::new(path) && matches!(volume.source, Source::Empty { .. }));
    if let Some(place) = reserved.or(emptied) {
        bail!(
            "no volume can be mounted at {path}: {place} of an app is the kernel's, mount it elsewhere"
        );
    }
    normal
        .into_os_string()
        .into_string()
        .ok()
        .context("mount path is not UTF-8")
}

fn pod_volume(volume: &Volume, key: String) -> Result<PodVolume> {
    let idmap = volume.idmap.unwrap_or(false);
    let source = match volume.kind {
        VolumeKind::Host => Source::Host {
            path: volume
                .source
                .clone()
                .with_context(|| format!("volume {}: no source", volume.name))?
                .into(),
            // nspawn maps the ids of one mount.
            recursive: volume.recursive.unwrap_or(!idmap),
            idmap,
        },
        VolumeKind::Empty => {
            let mode = match &volume.mode {
                Some(mode) => u32::from_str_radix(mode, 8).ok().with_context(|| {
                    format!("volume {}: mode {mode:?} is not octal", volume.name)
                })?,
                None => DEFAULT_MODE,
            };
            let (uid, gid) = (volume.uid.unwrap_or(0), volume.gid.unwrap_or(0));
            Source::Empty {
                mode,
                uid,
                gid,
                filled_from: None,
            }
        }
    };
    Ok(PodVolume {
        key,
        source,
        read_only: volume.read_only.unwrap_or(false),
    })
}

/// The volume for a mount point that got none.
fn implicit(app: AppVolumes<'_>, point: &MountPoint) -> PodVolume {
    let name = &app.runtime.name;
    let filled_from = app
        .converted
        .then(|| (name.to_string(), PathBuf::from(&point.path)));
    let source = Source::Empty {
        mode: DEFAULT_MODE,
        uid: 0,
        gid: 0,
        filled_from,
    };
    PodVolume {
        key: format!("{name}.implicit.{}", point.name),
        source,
        read_only: false,
    }
}

#[cfg(test)]
mod tests;
