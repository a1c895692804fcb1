//! The app's mount namespace.
//!
//! Each mount is made detached, by descriptor, and attached to a target that is opened inside the app's root
//! ([`Root`]), so that no symlink of the image can lead a mount out of it.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use common::confine::is_proc;
use common::pod::StageRoot;
use common::root::Root;
use common::spec::AppSpec;
use common::sys::{MountAttributes, mount_setattr};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{self, CWD, FileType};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};

use super::{credentials, dev, notify, protect};

/// Where cgroups are, for apps to read.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the root of `app` as `spec` says, in a mount namespace of this process's own, and makes it `/`.
pub(crate) fn enter_root(root: &StageRoot, app: &str, spec: &AppSpec) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    // What is mounted here stays here; what the pod's namespace gets from the host later comes along.
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM,
    )
    .context("make mounts receive and not send")?;

    let path = root.app_root(app);
    let tree = clone_tree(&path)?;
    // A mount can only be attached to one that is attached itself: the root goes on top of where it is from.
    move_mount(
        &tree,
        c"",
        CWD,
        &path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .with_context(|| format!("mount {}", path.display()))?;
    if spec.no_devices {
        let attributes = MountAttributes {
            no_devices: true,
            ..MountAttributes::default()
        };
        mount_setattr(&tree, attributes).context("close the devices in the root")?;
    }
    let app_root = Root::from(tree);

    attach(proc(spec)?, &app_root, Path::new("/proc"))?;
    attach(sys(spec)?, &app_root, Path::new("/sys"))?;
    let cgroups =
        read_only(clone_tree(Path::new(CGROUPS))?).context("make the cgroups read-only")?;
    attach(cgroups, &app_root, Path::new(CGROUPS))?;
    dev::mount(&app_root, spec)?;
    if spec.notifies {
        notify::show(&app_root)?;
    }
    if spec.protect_paths {
        protect::protect(&app_root)?;
    }
    files(root, &app_root)?;
    for mount in &spec.mounts {
        let source = clone_tree(&root.volumes().join(&mount.volume))?;
        let attributes = MountAttributes {
            read_only: mount.read_only,
            no_devices: spec.no_devices && !is_device(&source)?,
            recursive: true,
            ..MountAttributes::default()
        };
        mount_setattr(&source, attributes)
            .with_context(|| format!("restrict the volume {}", mount.volume))?;
        attach_volume(&source, &app_root, Path::new(&mount.target))?;
    }
    credentials::mount(root, app, spec, &app_root)?;
    if spec.read_only_root {
        mount_setattr(
            &app_root,
            MountAttributes {
                read_only: true,
                ..MountAttributes::default()
            },
        )
        .context("make the root read-only")?;
    }
    pivot(&app_root)
}

/// Whether it is a device node that is mounted.
fn is_device(mount: &OwnedFd) -> Result<bool> {
    let stat = fs::fstat(mount).context("look at a volume")?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(matches!(
        kind,
        FileType::BlockDevice | FileType::CharacterDevice
    ))
}

/// `/proc` of the pod, in which nspawn has protected some paths; one without any protection when that is asked for and
/// the pod may mount it.
fn proc(spec: &AppSpec) -> Result<OwnedFd> {
    let pods = || clone_tree(Path::new("/proc"));
    if spec.protect_paths {
        return pods();
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new_mount("proc", &[], flags).or_else(|_| pods())
}

/// A sysfs of the pod's network namespace, read-only when paths are protected. Where the pod may not mount one (in a user namespace) its own
/// `/sys` takes its place, in which nspawn shows a part.
fn sys(spec: &AppSpec) -> Result<OwnedFd> {
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, spec.protect_paths);
    new_mount("sysfs", &[], flags).or_else(|_| read_only(clone_tree(Path::new("/sys"))?))
}

/// A new detached mount of a file system.
pub(super) fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> Result<OwnedFd> {
    let context = || format!("make a {kind}");
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).with_context(context)?;
    // The source says nothing of these, but stands in the first column of every list of mounts.
    for (key, value) in [("source", kind)].iter().chain(options) {
        fsconfig_set_string(&fs, *key, *value)
            .with_context(|| format!("make a {kind} with {key}={value}"))?;
    }
    fsconfig_create(&fs).with_context(context)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).with_context(context)
}

/// A detached copy of the mount at `path` of the pod, with all below it.
pub(super) fn clone_tree(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).with_context(|| format!("take {} of the pod", path.display()))
}

/// Attaches a detached mount at `target` in the app's root, making the target where it is missing.
pub(super) fn attach(source: impl AsFd, root: &Root, target: &Path) -> Result<()> {
    let point = mount_point(&source, root, target)?;
    attach_at(source, point, target)
}

/// Attaches a volume, but not in `/proc`: the plan has refused paths below it, and a symlink of the image must not lead
/// there either.
fn attach_volume(source: impl AsFd, root: &Root, target: &Path) -> Result<()> {
    let point = mount_point(&source, root, target)?;
    let in_proc = is_proc(&point).with_context(|| format!("look at {}", target.display()))?;
    ensure!(
        !in_proc,
        "no volume can be mounted at {}: a link of the image leads to /proc there",
        target.display()
    );
    attach_at(source, point, target)
}

/// The place for a mount, made where it is missing.
fn mount_point(source: impl AsFd, root: &Root, target: &Path) -> Result<OwnedFd> {
    let stat = fs::fstat(&source)
        .with_context(|| format!("look at what to mount at {}", target.display()))?;
    let point = if FileType::from_raw_mode(stat.st_mode).is_dir() {
        root.make_dir(target)
    } else {
        root.make_file(target)
    };
    point.with_context(|| format!("make the mount point {}", target.display()))
}

fn attach_at(source: impl AsFd, point: OwnedFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source, c"", point, c"", flags)
        .with_context(|| format!("mount at {}", target.display()))
}

/// Makes a mount and all below it read-only.
pub(super) fn read_only(mount: OwnedFd) -> Result<OwnedFd> {
    mount_setattr(
        &mount,
        MountAttributes {
            read_only: true,
            recursive: true,
            ..MountAttributes::default()
        },
    )?;
    Ok(mount)
}

/// Shows the app the DNS files of the pod: `resolv.conf` and `hosts` where they were made, and a short `hosts` when
/// the image has none. They are the same files for all apps, so no app may write to them.
fn files(root: &StageRoot, app_root: &Root) -> Result<()> {
    let show = |file: &Path, target: &str| {
        let file =
            read_only(clone_tree(file)?).with_context(|| format!("make {target} read-only"))?;
        attach(file, app_root, Path::new(target))
    };
    if root.resolv_conf().exists() {
        show(&root.resolv_conf(), "/etc/resolv.conf")?;
    }
    let hosts = "/etc/hosts";
    let own = app_root.stat(Path::new(hosts));
    // An empty one is what an earlier start has made to mount on.
    let has_own = own
        .context("look at /etc/hosts")?
        .is_some_and(|stat| stat.st_size > 0);
    if root.hosts().exists() {
        show(&root.hosts(), hosts)
    } else if !has_own {
        show(&root.hosts_fallback(), hosts)
    } else {
        Ok(())
    }
}

/// Makes the app's root this process's `/` and lets go of the pod's.
fn pivot(root: &Root) -> Result<()> {
    let here: &CStr = c".";
    rustix::process::fchdir(root).context("change to the app's root")?;
    // With both the same, the old root is stacked on the new one (pivot_root(2), "pivot_root(".", ".")").
    rustix::process::pivot_root(here, here).context("make the app's root the root")?;
    unmount(here, UnmountFlags::DETACH).context("let go of the pod's root")?;
    rustix::process::chdir(c"/").context("change to the app's root")
}
