//! Roots made of a rendered tree of the store below and a layer of the pod's own above.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use common::pod::PodDir;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

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

    /// Makes the directories. The root of an overlay is that of its upper layer, so that takes after the tree's.
    pub fn make(&self, tree: &Path) -> Result<()> {
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
        std::os::unix::fs::chown(&self.upper, Some(root.uid()), Some(root.gid()))
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

    /// Mounts the overlay over `tree` on `target`.
    ///
    /// All paths lie in the data directory, and are given to the kernel relative to it: names in there have none of the
    /// characters that mean something in mount options, whatever the path of the data directory has. So this changes
    /// the working directory.
    pub fn mount(&self, pods: &Pods, tree: &Path, target: &Path) -> Result<()> {
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
        mount(
            "overlay",
            relative(data, target)?,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .with_context(|| format!("mount overlay on {}", target.display()))
    }
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
