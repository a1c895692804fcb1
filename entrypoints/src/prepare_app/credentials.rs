//! The app's credentials: files for its user alone, in a file system of its own that is never written to a disk.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use common::pod::StageRoot;
use common::root::Root;
use common::spec::AppSpec;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat};
use rustix::io::write;
use rustix::mount::MountAttrFlags;

use super::mounts::{attach, new_mount, read_only};

/// Mounts the credentials where the app's environment says that they are (`CREDENTIALS_DIRECTORY`, systemd.exec(5)).
pub(super) fn mount(root: &StageRoot, app: &str, spec: &AppSpec, app_root: &Root) -> Result<()> {
    if spec.credentials.is_empty() {
        return Ok(());
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Not a tmpfs, which may be swapped out.
    let dir = new_mount("ramfs", &[("mode", "500")], flags)?;
    for name in &spec.credentials {
        let from = root.credential(app, name);
        let content = std::fs::read(&from).with_context(|| format!("read {}", from.display()))?;
        make(&dir, name, &content, spec).with_context(|| format!("make the credential {name}"))?;
    }
    own(&dir, spec).context("make the directory of credentials")?;
    let target = common::spec::credentials_directory(app);
    attach(read_only(dir)?, app_root, Path::new(&target))
}

fn make(dir: &OwnedFd, name: &str, content: &[u8], spec: &AppSpec) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o400))?;
    let mut left = content;
    while !left.is_empty() {
        left = &left[write(&file, left)?..];
    }
    own(&file, spec)
}

/// The descriptor of a mount is of a kind that fchown(2) refuses.
fn own(file: &OwnedFd, spec: &AppSpec) -> Result<()> {
    let (uid, gid) = (spec.confinement.uid, spec.confinement.gid);
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)?)
}
