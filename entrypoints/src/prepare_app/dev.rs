//! `/dev` of an app: what the App Container specification demands ("OS-SPEC", Linux), on a tmpfs of the app's own.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use common::root::Root;
use common::spec::AppSpec;
use rustix::fs::{self, FileType, Mode, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mounts::{attach, clone_tree, new_mount};

/// Character devices, with their numbers (admin-guide/devices.txt of the kernel), mode 0666.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What the apps of a pod share, as they share the IPC namespace.
const SHARED: [&str; 2] = ["shm", "mqueue"];

/// The group `tty`, which owns terminals (devpts's own documentation, and every distribution).
const TTY_GROUP: &str = "5";

/// Mounts `/dev` in the app's root.
pub(super) fn mount(root: &Root, spec: &AppSpec) -> Result<()> {
    // Without it these have a context of the host's, in which a confined app may not write.
    let context = spec.mount_context.as_deref();
    let context = context.map(|context| ("context", context));
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut options = vec![("mode", "755"), ("size", "64k")];
    options.extend(context);
    let dev = new_mount("tmpfs", &options, flags)?;
    // Everything that does not need the place is made before the mount is attached.
    let mut borrowed = Vec::new();
    for (name, major, minor) in NODES {
        if !node(&dev, name, major, minor).with_context(|| format!("make /dev/{name}"))? {
            borrowed.push(name);
        }
    }
    for (name, target) in LINKS {
        fs::symlinkat(target, &dev, name).with_context(|| format!("make the link /dev/{name}"))?;
    }
    attach(&dev, root, Path::new("/dev"))?;
    // Only since Linux 6.15 can anything be mounted on a mount that is not attached yet.
    for name in borrowed {
        let path = Path::new("/dev").join(name);
        attach(clone_tree(&path)?, root, &path)?;
    }

    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut options = vec![("mode", "620"), ("gid", TTY_GROUP), ("ptmxmode", "666")];
    options.extend(context);
    let pts = new_mount("devpts", &options, flags)?;
    attach(&pts, root, Path::new("/dev/pts"))?;
    attach(
        clone_tree(Path::new("/dev/console"))?,
        root,
        Path::new("/dev/console"),
    )?;
    for name in SHARED {
        let path = Path::new("/dev").join(name);
        if path.exists() {
            attach(clone_tree(&path)?, root, &path)?;
        }
    }
    Ok(())
}

/// Makes a device node. False where nodes cannot be made (in a user namespace): the pod's own is mounted in its place.
fn node(dev: impl AsFd, name: &str, major: u32, minor: u32) -> Result<bool> {
    let mode = Mode::from_raw_mode(0o666);
    match fs::mknodat(
        &dev,
        name,
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    ) {
        Ok(()) => {
            // The umask took bits away.
            fs::chmodat(&dev, name, mode, fs::AtFlags::empty())?;
            Ok(true)
        }
        Err(Errno::PERM) => Ok(false),
        Err(err) => Err(err.into()),
    }
}
