//! Copying a tree into another one, as if it were a layer.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::root::Root;
use rustix::fs::{self, AtFlags, FileType, OFlags, Stat, Timespec};

use super::delete;
use super::metadata::Metadata;
use super::writer::TreeWriter;

/// Copies everything in the directory `from`, which nobody else changes.
pub(super) fn tree(from: &Path, writer: &mut TreeWriter) -> Result<()> {
    let source = Root::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut links = HashMap::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let context = || format!("copy {path:?}");
        let directory = open(&source, &path, OFlags::DIRECTORY).with_context(context)?;
        let target = path.strip_prefix(".").unwrap_or(&path);
        let metadata = metadata(&fs::fstat(&directory)?, Some(&directory)).with_context(context)?;
        writer.directory(target, &metadata).with_context(context)?;
        for (name, kind) in delete::names(&directory).with_context(context)? {
            let path = path.join(&name);
            if kind == FileType::Directory {
                left.push(path);
            } else {
                let context = || format!("copy {path:?}");
                file(&directory, &name, &path, writer, &mut links).with_context(context)?;
            }
        }
    }
    Ok(())
}

type Links = HashMap<(u64, u64), PathBuf>;

fn file(
    directory: &OwnedFd,
    name: &OsStr,
    path: &Path,
    writer: &mut TreeWriter,
    links: &mut Links,
) -> Result<()> {
    let target = path.strip_prefix(".").unwrap_or(path);
    let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_nlink > 1 {
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            return writer.hard_link(target, first);
        }
        links.insert((stat.st_dev, stat.st_ino), target.to_owned());
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(fs::openat(directory, name, flags, fs::Mode::empty())?);
            let metadata = metadata(&stat, Some(&file))?;
            let size = u64::try_from(stat.st_size)?;
            writer.file(target, &metadata, size, &mut &file)
        }
        FileType::Symlink => {
            let link = fs::readlinkat(directory, name, Vec::new())?;
            let link = OsStr::from_bytes(link.as_bytes());
            writer.symlink(target, link, &metadata(&stat, None::<&File>)?)
        }
        kind => writer.node(target, kind, stat.st_rdev, &metadata(&stat, None::<&File>)?),
    }
}

fn open(source: &Root, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    source.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | flags)
}

fn metadata(stat: &Stat, file: Option<impl AsFd>) -> Result<Metadata> {
    let xattrs = match file {
        Some(file) => attributes(file.as_fd())?,
        None => Vec::new(),
    };
    Ok(Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.try_into()?,
        },
        xattrs,
    })
}

/// An extended attribute: its name and value.
pub(super) type Attribute = (CString, Vec<u8>);

/// The extended attributes of an open file that belong to the image, in order.
pub(super) fn attributes(file: impl AsFd) -> Result<Vec<Attribute>> {
    let mut names = vec![0; 1 << 16];
    let length = match fs::flistxattr(&file, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        other => other.context("list attributes")?,
    };
    let mut attributes = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        // What the host adds, such as SELinux labels, it adds to the copy as well.
        if super::unpack::is_kept(name) {
            let name = CString::new(name)?;
            let mut value = vec![0; 1 << 16];
            let length = fs::fgetxattr(&file, &name, &mut value[..]).context("read attributes")?;
            value.truncate(length);
            attributes.push((name, value));
        }
    }
    attributes.sort();
    Ok(attributes)
}
