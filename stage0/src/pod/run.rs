//! Starts a prepared pod: this process becomes its run entrypoint.

use std::convert::Infallible;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use common::annotation::entrypoint;
use common::appc::{PodManifest, Uuid};
use common::id_range::IdRange;
use common::pod::PodDir;
use common::user_namespace;

use super::dns::Dns;
use super::entrypoint::Stage1;
use super::lock::Lock;
use super::overlay::{Layers, unmount_root};
use super::prepare::{Prepared, complete_app, make_dir};
use super::undo::Undo;
use super::{Place, Pods, users};
use crate::store::{Store, TreeId};

/// An option for the run entrypoint.
#[derive(Debug)]
pub struct RunOption {
    /// The version of the contract that brought it.
    pub since: u32,
    /// How it is spelled.
    pub text: String,
}

/// How to run a pod.
#[derive(Debug, Default)]
pub struct RunConfig {
    /// Options for the run entrypoint.
    pub options: Vec<RunOption>,
    /// The terminal is the app's.
    pub interactive: bool,
    /// The DNS files.
    pub dns: Dns,
}

/// Takes a prepared pod for oneself.
pub fn take_prepared(pods: &Pods, uuid: &Uuid) -> Result<Prepared> {
    let dir = pods.dir(Place::Prepared, uuid);
    let lock = match dir.path().exists() {
        true => Lock::try_exclusive(dir.path())?,
        false => bail!("run pod {uuid}: it is not prepared"),
    };
    // Somebody else may have run it before it was locked.
    match lock {
        Some(lock) if dir.path().exists() => Ok(Prepared {
            uuid: uuid.clone(),
            lock,
        }),
        _ => bail!("run pod {uuid}: somebody else runs or removes it"),
    }
}

/// Runs a pod. Returns only when that fails, and then the pod is as it was.
pub fn run(pods: &Pods, store: Store, pod: &Prepared, config: &RunConfig) -> Result<Infallible> {
    let uuid = &pod.uuid;
    let mut undo = Undo::default();
    let dir = pods.rename(uuid, Place::Prepared, Place::Run)?;
    undo.push(move || pods.rename(uuid, Place::Run, Place::Prepared).map(drop));
    let start = || -> Result<Infallible> {
        let manifest = read_manifest(&dir)?;
        if config.interactive && manifest.apps.len() != 1 {
            bail!(
                "--interactive: the pod has {} apps, not one",
                manifest.apps.len()
            );
        }
        let stage1 = Stage1::of(&dir)?;
        let users = users::of_pod(&dir)?;
        let options = options(config, users, stage1.interface_version()?)?;
        mount_roots(pods, &store, &dir, &manifest, &mut undo)?;
        // The pod names its trees, and its lock survives: nobody removes them.
        drop(store);
        config.dns.write(&dir.stage_root(), &mut undo)?;
        let mut command = stage1.command(&dir, entrypoint::RUN)?;
        command.args(options).arg(uuid.as_str());
        Err(exec(command, &pod.lock))
    };
    start().with_context(|| format!("run pod {uuid}"))
}

/// The pod's manifest.
pub fn read_manifest(pod: &PodDir) -> Result<PodManifest> {
    let file = pod.manifest();
    let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    PodManifest::parse(&bytes).with_context(|| format!("read {}", file.display()))
}

/// The options as words, if the stage1 knows them all.
fn options(config: &RunConfig, users: Option<IdRange>, version: u32) -> Result<Vec<String>> {
    let users = users.map(|range| RunOption {
        since: 1,
        text: format!("--private-users={range}"),
    });
    let mode = config.dns.mode().map(|mode| RunOption {
        since: 4,
        text: format!("--dns-conf-mode={mode}"),
    });
    let mut words = Vec::new();
    for option in config.options.iter().chain(&users).chain(&mode) {
        ensure!(
            option.since <= version,
            "{}: the stage1 speaks version {version} of the interface, this needs {}",
            option.text,
            option.since
        );
        words.push(option.text.clone());
    }
    Ok(words)
}

/// Mounts the roots of a pod with overlays, and completes those of the apps.
fn mount_roots(
    pods: &Pods,
    store: &Store,
    pod: &PodDir,
    manifest: &PodManifest,
    undo: &mut Undo<'_>,
) -> Result<()> {
    if !pod.overlay_prepared().exists() {
        return Ok(());
    }
    let root = pod.stage_root();
    let users = users::of_pod(pod)?.map(user_namespace::with_ids);
    let users = users.transpose()?;
    mount_stage1(pods, store, pod, users.as_ref())?;
    let mounted = root.path().to_owned();
    undo.push(move || unmount_root(&mounted));
    for app in &manifest.apps {
        let name = app.name.as_str();
        let target = root.app_root(name);
        make_dir(&target)?;
        let tree = store.tree(&read_tree_id(&pod.app_tree_id(name))?)?;
        let layers = Layers::of(pod, &tree.id.to_string(), Some(name));
        layers.mount(pods, &tree.rootfs, &target, users.as_ref())?;
        undo.push(move || unmount_root(&target));
        complete_app(pod, &root, name)?;
    }
    Ok(())
}

/// Mounts the stage1 root of a pod with overlays, with the owners of a user namespace if there is one.
pub fn mount_stage1(
    pods: &Pods,
    store: &Store,
    pod: &PodDir,
    users: Option<&OwnedFd>,
) -> Result<()> {
    let tree = store.tree(&read_tree_id(&pod.stage1_tree_id())?)?;
    let layers = Layers::of(pod, &tree.id.to_string(), None);
    layers.mount(pods, &tree.rootfs, pod.stage_root().path(), users)
}

/// Which tree a file names.
pub fn read_tree_id(file: &Path) -> Result<TreeId> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("read {}", file.display()))
}

/// Becomes the run entrypoint, which keeps the lock.
fn exec(mut command: Command, lock: &Lock) -> anyhow::Error {
    let fd = match lock.inherit() {
        Ok(fd) => fd,
        Err(err) => return err,
    };
    command.env("RKT_LOCK_FD", fd.to_string());
    // The contract has them set even when they are empty. This stage0 makes no contexts up: the caller may name them.
    for name in ["RKT_SELINUX_CONTEXT", "RKT_SELINUX_MOUNT_CONTEXT"] {
        command.env(name, std::env::var_os(name).unwrap_or_default());
    }
    let err = command.exec();
    lock.disinherit();
    let program = Path::new(command.get_program()).display();
    anyhow::Error::new(err).context(format!("execute {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    #[test]
    fn options_need_a_stage1_that_knows_them() {
        let config = RunConfig {
            options: vec![
                RunOption {
                    since: 1,
                    text: "--net=none".into(),
                },
                RunOption {
                    since: 2,
                    text: "--hostname=h".into(),
                },
            ],
            dns: Dns {
                resolv: super::super::dns::Resolv::Host,
                ..Dns::default()
            },
            ..RunConfig::default()
        };
        assert_eq!(
            options(&config, None, 6).unwrap(),
            [
                "--net=none",
                "--hostname=h",
                "--dns-conf-mode=resolv=host,hosts=default"
            ]
        );
        assert_eq!(
            options(&config, None, 3).unwrap_err().to_string(),
            "--dns-conf-mode=resolv=host,hosts=default: the stage1 speaks version 3 of the interface, this needs 4"
        );
    }

    #[test]
    fn only_prepared_pods_are_taken_and_only_once() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let uuid: Uuid = UUID.parse().unwrap();
        assert_eq!(
            take_prepared(&pods, &uuid).unwrap_err().to_string(),
            format!("run pod {UUID}: it is not prepared")
        );
        fs::create_dir_all(pods.dir(Place::Prepared, &uuid).path()).unwrap();
        let _taken = take_prepared(&pods, &uuid).unwrap();
        assert_eq!(
            take_prepared(&pods, &uuid).unwrap_err().to_string(),
            format!("run pod {UUID}: somebody else runs or removes it")
        );
    }

    #[test]
    fn a_failed_start_leaves_the_pod_prepared() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let uuid: Uuid = UUID.parse().unwrap();
        fs::create_dir_all(pods.dir(Place::Prepared, &uuid).path()).unwrap();
        let pod = take_prepared(&pods, &uuid).unwrap();
        let store = Store::open(data.path()).unwrap();
        let error = run(&pods, store, &pod, &RunConfig::default()).unwrap_err();
        assert!(
            format!("{error:#}").starts_with(&format!("run pod {UUID}: read ")),
            "{error:#}"
        );
        assert!(pods.dir(Place::Prepared, &uuid).path().exists());
    }
}
