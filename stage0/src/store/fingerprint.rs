//! The digest of a whole tree: names, owners, modes, times, attributes and contents.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::root::Root;
use rustix::fs::{self, AtFlags, FileType, OFlags, Stat};
use sha2::{Digest, Sha256};

use super::{copy, delete};

/// The digest of the tree at `root`.
pub(super) fn of(root: &Path) -> Result<String> {
    let tree = Root::open(root).with_context(|| format!("open {}", root.display()))?;
    let mut hash = Sha256::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let context = || format!("read {:?}", root.join(&path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = tree.open_at(&path, flags).with_context(context)?;
        let stat = fs::fstat(&directory).with_context(context)?;
        let attributes = copy::attributes(&directory).with_context(context)?;
        add(&mut hash, &path, &stat, &attributes);
        for (name, kind) in delete::names(&directory).with_context(context)? {
            let path = path.join(&name);
            if kind == FileType::Directory {
                left.push(path);
            } else {
                let context = || format!("read {:?}", root.join(&path));
                file(&mut hash, &directory, &name, &path).with_context(context)?;
            }
        }
    }
    Ok(format!("sha256:{:x}", hash.finalize()))
}

fn file(hash: &mut Sha256, directory: impl AsFd, name: &OsStr, path: &Path) -> Result<()> {
    let stat = fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(fs::openat(directory, name, flags, fs::Mode::empty())?);
            add(hash, path, &stat, &copy::attributes(&file)?);
            io::copy(&mut file, hash)?;
        }
        FileType::Symlink => {
            add(hash, path, &stat, &[]);
            hash.update(fs::readlinkat(directory, name, Vec::new())?.as_bytes());
        }
        _ => add(hash, path, &stat, &[]),
    }
    Ok(())
}

/// Adds everything but the content, each part in a form that has an end, so that no two trees read alike.
fn add(hash: &mut Sha256, path: &Path, stat: &Stat, attributes: &[copy::Attribute]) {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // Sizes and link counts of directories are up to the file system.
    let (size, links) = if is_directory {
        (0, 0)
    } else {
        (stat.st_size, stat.st_nlink)
    };
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(path.as_os_str().as_bytes());
    let numbers = format!(
        "{} {} {} {} {} {} {}.{} {}",
        stat.st_mode,
        stat.st_uid,
        stat.st_gid,
        stat.st_rdev,
        size,
        links,
        stat.st_mtime,
        stat.st_mtime_nsec,
        attributes.len(),
    );
    part(numbers.as_bytes());
    for (name, value) in attributes {
        part(name.to_bytes());
        part(value);
    }
}
