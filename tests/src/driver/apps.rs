//! Adding and removing apps of a running pod, as an existing rkt does it.

use std::fs::{self, File};
use std::panic::resume_unwind;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use serde_json::Value;

use super::pod::{Pod, write};
use super::spec::AppSpec;
use super::tree::Tree;
use crate::process::Finished;

/// How the mounts of a host may be.
#[derive(Debug, Clone, Copy)]
pub enum Propagation {
    /// Nobody gets what is mounted.
    Private,
    /// Pods get what is mounted after their start.
    Shared,
}

/// Runs a test in a mount namespace of its own, with the mounts of such a host.
pub fn in_mounts(propagation: Propagation, test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let there = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context("unshare mounts")?;
        let change = |flags| mount_change("/", MountPropagationFlags::REC | flags);
        change(MountPropagationFlags::PRIVATE)?;
        if let Propagation::Shared = propagation {
            change(MountPropagationFlags::SHARED)?;
        }
        test()
    };
    match std::thread::scope(|scope| scope.spawn(there).join()) {
        Ok(tested) => tested.with_context(|| format!("mounts: {propagation:?}")),
        Err(panic) => resume_unwind(panic),
    }
}

impl Pod {
    /// All that a stage0 does to add an app. What it has done is left when the entrypoint fails; see
    /// [`Pod::take_app_away`].
    pub fn add_app(&self, spec: AppSpec, options: &[&str]) -> Result<Finished> {
        let _lock = self.lock_manifest()?;
        self.give_app(spec)
            .and_then(|app| self.app("app/add", &app, options))
    }

    /// What stage0 does before it calls the entrypoint; gives the app's name. The caller has the lock.
    pub fn give_app(&self, spec: AppSpec) -> Result<String> {
        let tree = Tree::of(&spec.image)?;
        let runtime = spec.runtime(&tree);
        let app = spec.name;
        self.lay_out_app(app.clone(), tree)?;
        self.mount_app(&app)?;
        let mut environment = format!("AC_APP_NAME={app}\n");
        for variable in runtime["app"]["environment"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |field: &str| variable[field].as_str().unwrap_or_default().to_owned();
            environment += &format!("{}={}\n", text("name"), text("value"));
        }
        write(&self.root().join("rkt/env").join(&app), &environment)?;
        self.change_manifest(|apps| apps.push(runtime))?;
        write(&self.status_file(&app, "-created"), "")?;
        Ok(app)
    }

    /// All that a stage0 does to remove an app.
    pub fn remove_app(&self, app: &str) -> Result<()> {
        let _lock = self.lock_manifest()?;
        self.app("app/stop", app, &[])?.expect(0)?;
        self.app("app/rm", app, &[])?.expect(0)?;
        self.take_app_away(app)
    }

    /// What stage0 does after the entrypoint: a plain unmount of the app's root, and the removal of all that it has of
    /// the app. The caller has the lock.
    pub fn take_app_away(&self, app: &str) -> Result<()> {
        if self.overlay {
            let root = self.app_root(app);
            unmount(&root, UnmountFlags::empty())
                .with_context(|| format!("unmount {}", root.display()))?;
        }
        let mut apps = self.apps.borrow_mut();
        let found = apps.iter().position(|(name, _)| name == app);
        let (_, tree) = apps.remove(found.context("no such app")?);
        let root = self.root();
        let dir = self.dir();
        let mut dirs = vec![
            root.join("opt/stage2").join(app),
            dir.join("appsinfo").join(app),
        ];
        if self.overlay {
            let layers = dir.join("overlay").join(&tree.id);
            dirs.extend(["upper", "work"].map(|layer| layers.join(layer).join(app)));
        }
        for dir in dirs {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        let files = ["", "-created", "-started"].map(|suffix| self.status_file(app, suffix));
        for file in files.iter().chain([&root.join("rkt/env").join(app)]) {
            if file.exists() {
                fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
            }
        }
        self.change_manifest(|apps| apps.retain(|other| other["name"] != app))
    }

    /// Starts an app again as an existing rkt does it.
    pub fn start_app(&self, app: &str) -> Result<Finished> {
        for suffix in ["", "-started"] {
            let file = self.status_file(app, suffix);
            if file.exists() {
                fs::remove_file(&file)?;
            }
        }
        write(&self.status_file(app, "-started"), "")?;
        self.app("app/start", app, &[])
    }

    /// Holds the lock under which the pod's manifest is changed.
    pub fn lock_manifest(&self) -> Result<File> {
        let file = File::options()
            .write(true)
            .open(self.dir().join("pod.lck"))?;
        flock(&file, FlockOperation::LockExclusive).context("lock the manifest")?;
        Ok(file)
    }

    fn status_file(&self, app: &str, suffix: &str) -> std::path::PathBuf {
        self.root()
            .join("rkt/status")
            .join(format!("{app}{suffix}"))
    }

    fn change_manifest(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let path = self.dir().join("pod");
        let mut manifest: Value = serde_json::from_str(&self.read("pod")?)?;
        change(manifest["apps"].as_array_mut().context("apps")?);
        let beside = self.dir().join("pod.new");
        write(&beside, &serde_json::to_string(&manifest)?)?;
        fs::rename(&beside, &path).context("replace the manifest")
    }
}
