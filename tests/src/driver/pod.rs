//! Pod directories: laid out, moved from state to state, with their overlays mounted.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::spec::PodSpec;
use super::tree::Tree;
use crate::process::spawning;

/// Where a pod's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named like the directories")]
pub enum State {
    Prepare,
    Prepared,
    Run,
    ExitedGarbage,
}

impl State {
    fn dir(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Prepared => "prepared",
            Self::Run => "run",
            Self::ExitedGarbage => "exited-garbage",
        }
    }
}

/// A pod directory.
pub struct Pod {
    /// The pod's UUID.
    pub uuid: String,
    /// The rendered stage1.
    pub stage1: &'static Tree,
    pub(super) overlay: bool,
    pub(super) apps: RefCell<Vec<(String, Tree)>>,
    pods: PathBuf,
    state: Cell<State>,
}

/// Lays out a pod in `prepare/`.
pub(super) fn lay_out(data: &Path, spec: PodSpec) -> Result<Pod> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("make a UUID")?
        .trim()
        .to_owned();
    let trees = spec
        .apps
        .iter()
        .map(|app| Tree::of(&app.image))
        .collect::<Result<Vec<_>>>()?;
    let manifest = spec.manifest(&trees);
    let pod = Pod {
        uuid,
        stage1: Tree::stage1()?,
        overlay: spec.overlay,
        apps: RefCell::default(),
        pods: data.join("pods"),
        state: Cell::new(State::Prepare),
    };
    let dir = pod.dir();
    fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
    write(&dir.join("pod-created"), "")?;
    write(&dir.join("stage1/manifest"), &pod.stage1.manifest)?;
    let root = pod.root();
    if pod.overlay {
        write(&dir.join("stage1TreeStoreID"), &pod.stage1.id)?;
        write(&dir.join("overlay-prepared"), "")?;
        fs::create_dir(&root)?;
        for layer in ["upper", "work"] {
            fs::create_dir_all(dir.join("overlay").join(&pod.stage1.id).join(layer))?;
        }
    } else {
        pod.stage1.copy_to(&root)?;
    }
    for (app, tree) in spec.apps.into_iter().zip(trees) {
        pod.lay_out_app(app.name, tree)?;
    }
    write(&dir.join("pod"), &serde_json::to_string(&manifest)?)?;
    write(&dir.join("pod.lck"), "")?;
    Ok(pod)
}

impl Pod {
    /// Lays an app out, in a pod that runs or one that does not.
    pub(super) fn lay_out_app(&self, app: String, tree: Tree) -> Result<()> {
        let dir = self.dir();
        let info = dir.join("appsinfo").join(&app);
        write(&info.join("manifest"), &tree.manifest)?;
        let running = self.state.get() == State::Run;
        let root = if running {
            self.root()
        } else {
            self.writable_root()
        };
        let stage2 = root.join("opt/stage2").join(&app);
        write(&stage2.join("manifest"), &tree.manifest)?;
        if self.overlay {
            write(&info.join("treeStoreID"), &tree.id)?;
            fs::create_dir(stage2.join("rootfs"))?;
            for layer in ["upper", "work"] {
                fs::create_dir_all(dir.join("overlay").join(&tree.id).join(layer).join(&app))?;
            }
        } else {
            tree.copy_to(&stage2.join("rootfs"))?;
        }
        self.apps.borrow_mut().push((app, tree));
        Ok(())
    }

    /// The pod directory, wherever it is now.
    pub fn dir(&self) -> PathBuf {
        self.pods.join(self.state.get().dir()).join(&self.uuid)
    }

    /// The stage1 root.
    pub fn root(&self) -> PathBuf {
        self.dir().join("stage1/rootfs")
    }

    /// Where an existing rkt reads files of the stage1 root: with overlay, in the upper layer.
    pub fn writable_root(&self) -> PathBuf {
        if self.overlay {
            self.dir()
                .join("overlay")
                .join(&self.stage1.id)
                .join("upper")
        } else {
            self.root()
        }
    }

    /// Moves the directory to another state's.
    pub fn become_state(&self, state: State) -> Result<()> {
        let from = self.dir();
        self.state.set(state);
        fs::rename(&from, self.dir())
            .with_context(|| format!("move {} to {}", from.display(), state.dir()))
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Mounts the overlays of stage1 and the apps.
    pub fn mount(&self) -> Result<()> {
        self.mount_stage1()?;
        let apps = self.apps.borrow();
        apps.iter().try_for_each(|(app, _)| self.mount_app(app))
    }

    /// Where the root of an app is.
    pub fn app_root(&self, app: &str) -> PathBuf {
        self.root().join("opt/stage2").join(app).join("rootfs")
    }

    /// Mounts the overlay of one app.
    pub(super) fn mount_app(&self, app: &str) -> Result<()> {
        let apps = self.apps.borrow();
        let found = apps.iter().find(|(name, _)| name == app);
        match found.filter(|_| self.overlay) {
            Some((_, tree)) => self.mount_overlay(tree, Some(app), &self.app_root(app)),
            None => Ok(()),
        }
    }

    /// Mounts the overlay of stage1 alone, as a stage0 does for gc after a reboot.
    pub fn mount_stage1(&self) -> Result<()> {
        if !self.overlay {
            return Ok(());
        }
        self.mount_overlay(self.stage1, None, &self.root())
    }

    fn mount_overlay(&self, tree: &Tree, app: Option<&str>, target: &Path) -> Result<()> {
        let layer = |name: &str| {
            let layer = self.dir().join("overlay").join(&tree.id).join(name);
            app.map_or(layer.clone(), |app| layer.join(app))
                .display()
                .to_string()
        };
        let lower = tree.rootfs.display();
        let data = format!(
            "lowerdir={lower},upperdir={},workdir={}",
            layer("upper"),
            layer("work")
        );
        let data = std::ffi::CString::new(data)?;
        mount(
            "overlay",
            target,
            "overlay",
            MountFlags::empty(),
            data.as_c_str(),
        )
        .with_context(|| format!("mount an overlay on {}", target.display()))
    }

    /// Takes the overlays away, the apps' first.
    pub fn unmount(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
        let below = self.dir().display().to_string();
        let targets = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|path| path.starts_with(&below));
        for target in targets.collect::<Vec<_>>().into_iter().rev() {
            unmount(target, UnmountFlags::empty()).with_context(|| format!("unmount {target}"))?;
        }
        Ok(())
    }

    /// Writes a file into the stage1 root.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.root().join(path);
        let _alone = spawning();
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(fs::set_permissions(
            path,
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )?)
    }

    /// Opens the directory for locking.
    pub fn open(&self) -> Result<File> {
        File::open(self.dir()).with_context(|| format!("open {}", self.dir().display()))
    }

    /// After the pod's end: moves it to `exited-garbage/`, calls its gc entrypoint, takes the overlays away and
    /// removes it. So it is done with each pod when a test ends, and before that where it has so many that they would fill
    /// the disk.
    pub fn collect(&self) -> Result<()> {
        if self.state.get() == State::Run {
            ensure!(!self.is_locked()?, "the pod still runs");
            self.become_state(State::ExitedGarbage)?;
        }
        if self.state.get() == State::ExitedGarbage && self.dir().exists() {
            self.gc(&[])?.expect(0)?;
        }
        self.unmount()?;
        if self.dir().exists() {
            fs::remove_dir_all(self.dir())
                .with_context(|| format!("remove {}", self.dir().display()))?;
        }
        ensure!(!self.dir().exists(), "the pod directory is back");
        Ok(())
    }
}

pub(super) fn write(path: &Path, content: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("path")?)?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
