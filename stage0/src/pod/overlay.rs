//! Roots made of a rendered tree of the store below and a layer of the pod's own above.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use common::id_range::IdRange;
use common::pod::PodDir;
use common::sys::{MountAttributes, mount_setattr};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};

use super::Pods;
use super::delete::delete_tree;
use super::mounts::no_links;

/// Magic number of overlays in `statfs(2)`.
const OVERLAYFS: u64 = 0x794c_7630;

/// The layers of the pod's own over one tree.
#[derive(Debug)]
pub struct Layers {
    upper: PathBuf,
    work: PathBuf,
}

impl Layers {
    /// The layers over the tree `id`, for stage1 or for an app.
    pub fn of(pod: &PodDir, id: &str, app: Option<&str>) -> Self {
        let overlay = pod.overlay(id);
        let app = app.unwrap_or_default();
        Self {
            upper: overlay.join("upper").join(app),
            work: overlay.join("work").join(app),
        }
    }

    /// The layer that is written to.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Makes the directories. The root of an overlay is that of its upper layer, so that takes after the tree's, as the
    /// ids of the pod's user namespace when it has one.
    pub fn make(&self, tree: &Path, users: Option<IdRange>) -> Result<()> {
        for dir in [&self.upper, &self.work] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let root = fs::metadata(tree).with_context(|| format!("stat {}", tree.display()))?;
        let context = || {
            format!(
                "give {} the owner and mode of the image's root",
                self.upper.display()
            )
        };
        let of_host = |id: u32| users.map_or(Ok(id), |users| users.to_host(id));
        let (uid, gid) = (of_host(root.uid())?, of_host(root.gid())?);
        std::os::unix::fs::chown(&self.upper, Some(uid), Some(gid))
            .and_then(|()| fs::set_permissions(&self.upper, root.permissions()))
            .with_context(context)
    }

    /// Deletes the directories of an app, and those above that were there for it alone. Missing ones are no error.
    pub fn delete(&self) -> Result<()> {
        for dir in [&self.upper, &self.work] {
            if let Some(parent) = dir.parent().filter(|parent| parent.exists()) {
                delete_tree(dir)?;
                remove_if_empty(parent)?;
            }
        }
        let of_tree = self.upper.parent().and_then(Path::parent);
        of_tree.map_or(Ok(()), remove_if_empty)
    }

    /// Mounts the overlay over `tree` on `target`. The tree's files are those of the user namespace `users`, if there is
    /// one, and device nodes among them cannot be opened then: no rule of a cgroup would restrict them.
    pub fn mount(
        &self,
        pods: &Pods,
        tree: &Path,
        target: &Path,
        users: Option<&OwnedFd>,
    ) -> Result<()> {
        match users {
            None => self.mount_over(pods, tree, target, MountFlags::empty()),
            Some(users) => {
                let overlay = with_mapped(users, tree, || {
                    self.mount_over(pods, tree, target, MountFlags::NODEV)?;
                    take(target)
                })?;
                attach(&overlay, target)
            }
        }
        .with_context(|| format!("mount overlay on {}", target.display()))
    }

    /// Fails where [`Layers::mount`] would for a user namespace. Nothing stays mounted.
    pub fn try_mapped(
        &self,
        pods: &Pods,
        tree: &Path,
        target: &Path,
        users: &OwnedFd,
    ) -> Result<()> {
        with_mapped(users, tree, || {
            self.mount_over(pods, tree, target, MountFlags::NODEV)
        })
    }

    /// Mounts the overlay over `tree`, as that is shown here.
    ///
    /// All paths lie in the data directory, and are given to the kernel relative to it: names in there have none of the
    /// characters that mean something in mount options, whatever the path of the data directory has. So this changes
    /// the working directory.
    fn mount_over(&self, pods: &Pods, tree: &Path, target: &Path, flags: MountFlags) -> Result<()> {
        let data = pods.data();
        std::env::set_current_dir(data).with_context(|| format!("enter {}", data.display()))?;
        let mut options = Vec::new();
        for (key, path) in [
            ("lowerdir=", tree),
            (",upperdir=", &self.upper),
            (",workdir=", &self.work),
        ] {
            let path = relative(data, path)?;
            no_links(Path::new("."), path)?;
            options.extend_from_slice(key.as_bytes());
            options.extend_from_slice(path.as_os_str().as_bytes());
        }
        let options = CString::new(options)?;
        let target = relative(data, target)?;
        Ok(mount(
            "overlay",
            target,
            "overlay",
            flags,
            options.as_c_str(),
        )?)
    }
}

/// Does `work` where the owners of the files of `tree` are mapped: in a mount namespace of a thread's own, of which
/// nothing is left however this ends. An overlay keeps the layers that it was made of.
fn with_mapped<T: Send>(
    users: &OwnedFd,
    tree: &Path,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let there = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
            .context("make a mount namespace")?;
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .context("keep mounts to itself")?;
        let mapped = take(tree)?;
        let attributes = MountAttributes {
            ids_of: Some(users.as_fd()),
            ..MountAttributes::default()
        };
        mount_setattr(&mapped, attributes)
            .with_context(|| format!("map the owners of {}", tree.display()))?;
        attach(&mapped, tree)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(there).join())
        .map_err(|_| anyhow!("the thread with mapped owners has died"))?
}

/// A detached copy of the mount at `path`.
fn take(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).with_context(|| format!("take {}", path.display()))
}

fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, c"", CWD, target, flags)
        .with_context(|| format!("attach it at {}", target.display()))
}

/// Removes a directory unless it has something in it or is not there.
fn remove_if_empty(dir: &Path) -> Result<()> {
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        Err(err) => Err(err).with_context(|| format!("remove {}", dir.display())),
    }
}

/// Unmounts a root that [`Layers::mount`] made.
pub fn unmount_root(root: &Path) -> Result<()> {
    unmount(root, UnmountFlags::NOFOLLOW).with_context(|| format!("unmount {}", root.display()))
}

/// Why there can be no overlays in the data directory, if so.
pub fn unsupported(data: &Path) -> Result<Option<&'static str>> {
    use rustix::mount::{FsOpenFlags, fsopen};
    // This loads the kernel's module where it is one.
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => {}
        Err(Errno::NODEV) => return Ok(Some("the kernel has no overlay file system")),
        Err(err) => return Err(err).context("ask the kernel for the overlay file system"),
    }
    let stat = rustix::fs::statfs(data).with_context(|| format!("look at {}", data.display()))?;
    let nested = u64::try_from(stat.f_type).is_ok_and(|kind| kind == OVERLAYFS);
    Ok(nested.then_some("the data directory is on an overlay itself"))
}

fn relative<'p>(data: &Path, path: &'p Path) -> Result<&'p Path> {
    let Ok(relative) = path.strip_prefix(data) else {
        bail!(
            "mount overlay: {} is outside of {}",
            path.display(),
            data.display()
        );
    };
    Ok(relative)
}
