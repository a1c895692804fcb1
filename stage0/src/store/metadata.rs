//! What a file has besides its content.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// 1970.
pub(super) const EPOCH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What is known of a file besides its content.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    /// The permission bits, with those for set-user-ID, set-group-ID and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    pub xattrs: Vec<(CString, Vec<u8>)>,
}

impl Metadata {
    /// That of a directory that no archive describes.
    pub(super) fn directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: EPOCH,
            xattrs: Vec::new(),
        }
    }
}

/// Both times of a file, as the image has only one.
pub(super) fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}

/// Sets owner, mode and attributes of an open file, in this order: a change of the owner clears
/// set-user-ID bits and file capabilities.
pub(super) fn set(file: impl AsFd, metadata: &Metadata) -> Result<()> {
    let owner = Uid::from_raw(metadata.uid);
    let group = Gid::from_raw(metadata.gid);
    owned(fs::fchown(&file, Some(owner), Some(group)))?;
    fs::fchmod(&file, Mode::from_raw_mode(metadata.mode & 0o7777)).context("set the mode")?;
    for (name, value) in &metadata.xattrs {
        match fs::fsetxattr(&file, name.as_c_str(), value, XattrFlags::empty()) {
            // Only capabilities are a part of what a program may do.
            Err(Errno::OPNOTSUPP) if name.as_c_str() != c"security.capability" => {}
            other => other.with_context(|| format!("set the attribute {name:?}"))?,
        }
    }
    Ok(())
}

/// Sets owner and times of a file that cannot be opened.
pub(super) fn set_named(parent: &OwnedFd, name: &OsStr, metadata: &Metadata) -> Result<()> {
    let owner = Uid::from_raw(metadata.uid);
    let group = Gid::from_raw(metadata.gid);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    owned(fs::chownat(parent, name, Some(owner), Some(group), flags))?;
    fs::utimensat(parent, name, &times(metadata.mtime), flags).context("set the times")?;
    Ok(())
}

/// Only root can give files away. Others, who can run no pods of them, have them as their own, as with tar.
fn owned(result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        other => other.context("set the owner"),
    }
}
