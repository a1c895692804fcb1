//! Mounts an app's root and volumes in the running pod.
//!
//! Each is taken on the host, by descriptor, and attached in the pod's mount namespace. What the pod sees already is left
//! alone: a plain root, what stage0 has mounted where the host's mounts are shared with the pod, a volume of another app.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::apply::belong;
use common::id_range::IdRange;
use common::pod::StageRoot;
use common::sys::{MountAttributes, mount_setattr};
use common::user_namespace;
use common::volume::{PodVolume, Source};
use rustix::fs::{CWD, fstat, stat};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::crossing::Crossing;
use crate::inside::{attach, detach, in_mounts_of};

/// What was mounted. Dropped, it is taken away, unless it is kept.
pub(super) struct Placed<'a> {
    init: &'a OwnedFd,
    /// Mounts, as the pod sees them.
    mounts: Vec<PathBuf>,
    /// Mount points that were made, as the host sees them.
    points: Vec<PathBuf>,
}

impl Placed<'_> {
    /// Leaves everything mounted.
    pub(super) fn keep(mut self) {
        self.mounts.clear();
        self.points.clear();
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        // Each is tried, whatever became of the ones before: this is the way back from an error already.
        let mounts = std::mem::take(&mut self.mounts);
        if !mounts.is_empty() {
            let _ = in_mounts_of(self.init, move || {
                mounts.iter().rev().for_each(|mount| drop(detach(mount)));
                Ok(())
            });
        }
        for point in self.points.iter().rev() {
            let _ = fs::remove_file(point).or_else(|_| fs::remove_dir(point));
        }
    }
}

/// Something to mount.
struct Tree {
    mount: OwnedFd,
    /// Where, as the pod sees it.
    target: PathBuf,
}

/// Mounts the app's root and these volumes.
pub(super) fn place<'a>(crossing: &'a Crossing, volumes: &[PodVolume]) -> Result<Placed<'a>> {
    let (host, pod) = (crossing.dir.stage_root(), StageRoot::new("/"));
    let app = crossing.app.as_str();
    let mut placed = Placed {
        init: &crossing.init,
        mounts: Vec::new(),
        points: Vec::new(),
    };
    let everything = MountAttributes {
        slave: true,
        recursive: true,
        ..MountAttributes::default()
    };
    let mut trees = vec![Tree {
        mount: take(&host.app_root(app), everything)?,
        target: pod.app_root(app),
    }];
    let users = mapped_ids(crossing.options.private_users, volumes)?;
    for volume in volumes {
        let origin = volume.origin(&crossing.dir);
        let attributes = MountAttributes {
            read_only: volume.read_only,
            slave: true,
            recursive: origin.recursive,
            ids_of: users.as_ref().map(AsFd::as_fd).filter(|_| origin.idmap),
            ..MountAttributes::default()
        };
        let mount =
            take(&origin.path, attributes).with_context(|| format!("volume {}", volume.key))?;
        let point = host.volumes().join(&volume.key);
        make_point(&mut placed, &point, origin.path.is_dir())?;
        trees.push(Tree {
            mount,
            target: pod.volumes().join(&volume.key),
        });
    }
    // Noted one by one, for the way back.
    let mounts = &mut placed.mounts;
    in_mounts_of(&crossing.init, move || {
        for tree in trees {
            if !is_seen(&tree)? {
                attach(&tree.mount, &tree.target)?;
                mounts.push(tree.target);
            }
        }
        Ok(())
    })?;
    Ok(placed)
}

/// The ids of the pod's user namespace, when it has one and a volume's are to be mapped to them.
fn mapped_ids(users: Option<IdRange>, volumes: &[PodVolume]) -> Result<Option<OwnedFd>> {
    let mapped = |volume: &PodVolume| matches!(volume.source, Source::Host { idmap: true, .. });
    let users = users.filter(|_| volumes.iter().any(mapped));
    users.map(user_namespace::with_ids).transpose()
}

/// A detached copy of what is at `path` of the host. Nothing that is mounted in it from now on goes back to the host.
fn take(path: &Path, attributes: MountAttributes<'_>) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, attributes.recursive);
    let mount = open_tree(CWD, path, flags).with_context(|| format!("take {}", path.display()))?;
    mount_setattr(&mount, attributes)
        .with_context(|| format!("set the attributes of the mount of {}", path.display()))?;
    Ok(mount)
}

/// Makes a mount point of the kind of what is mounted there.
fn make_point(placed: &mut Placed<'_>, point: &Path, directory: bool) -> Result<()> {
    if point.exists() {
        return Ok(());
    }
    let context = || format!("make {}", point.display());
    let parent = point.parent().with_context(context)?;
    if !parent.exists() {
        fs::create_dir(parent).with_context(|| format!("make {}", parent.display()))?;
        placed.points.push(parent.to_owned());
        belong(parent)?;
    }
    if directory {
        fs::create_dir(point).with_context(context)?;
    } else {
        File::create(point).map(drop).with_context(context)?;
    }
    placed.points.push(point.to_owned());
    // The pod's root removes it.
    belong(point)
}

/// Whether the pod, in whose mount namespace this runs, sees at the target what would be mounted there.
fn is_seen(tree: &Tree) -> Result<bool> {
    let new = fstat(&tree.mount).context("look at what to mount")?;
    let there = stat(&tree.target)
        .with_context(|| format!("look at {} of the pod", tree.target.display()))?;
    Ok((new.st_dev, new.st_ino) == (there.st_dev, there.st_ino))
}
