//! Deletes a directory tree without ever leaving it: not through symlinks, and not into mounts.
//!
//! A pod's files are made by its apps. They may nest directories as deep as they like, so neither the stack nor the
//! number of open files may grow with the depth.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory on the way down.
struct Level {
    name: CString,
    /// Device and inode, to know it again on the way up.
    id: (u64, u64),
    /// Its directories that are yet to be deleted.
    pending: Vec<CString>,
}

/// Deletes `dir` with everything in it. A mount below it is an error and stays; a missing `dir` is none.
pub fn delete_tree(dir: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        bail!("delete {}: it has no parent", dir.display());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())
        .with_context(|| format!("open {}", parent.display()))?;
    let name = CString::new(name.as_bytes())?;
    let mut walk = Walk {
        top: dir.to_owned(),
        levels: Vec::new(),
    };
    let top = match walk.enter(parent.as_fd(), &name) {
        Err(err) if err.downcast_ref() == Some(&Errno::NOENT) => return Ok(()),
        other => other?,
    };
    walk.empty(top)?;
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)
        .with_context(|| format!("delete {}", dir.display()))
}

struct Walk {
    top: PathBuf,
    levels: Vec<Level>,
}

impl Walk {
    /// Empties the directory of the only level.
    fn empty(&mut self, mut current: OwnedFd) -> Result<()> {
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                current = self.enter(current.as_fd(), &name)?;
                continue;
            }
            let done = self.levels.pop();
            let (Some(done), Some(above)) = (done, self.levels.last()) else {
                break;
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let up = rustix::fs::openat(&current, c"..", flags, Mode::empty())
                .with_context(|| format!("open {}", self.path().display()))?;
            if id(&up)? != above.id {
                bail!("delete {}: it was moved", self.path().display());
            }
            rustix::fs::unlinkat(&up, &done.name, AtFlags::REMOVEDIR)
                .with_context(|| format!("delete {}", self.path_of(&done.name).display()))?;
            current = up;
        }
        Ok(())
    }

    /// Opens the directory `name`, makes it the lowest level and deletes all but the directories in it.
    fn enter(&mut self, parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let fd = match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::XDEV) => bail!("delete {}: it is mounted", self.path_of(name).display()),
            Err(err) => {
                return Err(err).with_context(|| format!("open {}", self.path_of(name).display()));
            }
        };
        self.levels.push(Level {
            name: name.to_owned(),
            id: id(&fd)?,
            pending: Vec::new(),
        });
        let pending = self.delete_files(&fd)?;
        if let Some(level) = self.levels.last_mut() {
            level.pending = pending;
        }
        Ok(fd)
    }

    /// Deletes all but the directories in `fd`, which it returns.
    fn delete_files(&self, fd: &OwnedFd) -> Result<Vec<CString>> {
        let mut dirs = Vec::new();
        let context = || format!("read {}", self.path().display());
        for entry in Dir::read_from(fd).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match rustix::fs::unlinkat(fd, name, AtFlags::empty()) {
                    Ok(()) => continue,
                    // Its file system does not tell types.
                    Err(Errno::ISDIR) => {}
                    Err(Errno::BUSY) => {
                        bail!("delete {}: it is mounted", self.path_of(name).display())
                    }
                    Err(err) => {
                        return Err(err)
                            .with_context(|| format!("delete {}", self.path_of(name).display()));
                    }
                }
            }
            dirs.push(name.to_owned());
        }
        Ok(dirs)
    }

    /// Where the walk is, for errors.
    fn path(&self) -> PathBuf {
        let below = self.levels.iter().skip(1);
        let mut path = self.top.clone();
        path.extend(below.map(|level| std::ffi::OsStr::from_bytes(level.name.to_bytes())));
        path
    }

    fn path_of(&self, name: &CStr) -> PathBuf {
        match self.levels.is_empty() {
            true => self.top.clone(),
            false => self
                .path()
                .join(std::ffi::OsStr::from_bytes(name.to_bytes())),
        }
    }
}

fn id(fd: &OwnedFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd).context("stat a directory to delete")?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn deletes_everything_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let top = dir.path().join("top");
        for sub in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(top.join(sub)).unwrap();
            fs::write(top.join(sub).join("file"), "").unwrap();
        }
        symlink(&outside, top.join("a/link")).unwrap();
        symlink("/no/where", top.join("dangling")).unwrap();
        delete_tree(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
        delete_tree(&top).unwrap();
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut fd = rustix::fs::open(&top, flags, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&fd, c"d", Mode::RWXU).unwrap();
            fd = rustix::fs::openat(&fd, c"d", flags, Mode::empty()).unwrap();
        }
        drop(fd);
        delete_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_symlink_in_place_of_the_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(delete_tree(&link).is_err());
        assert!(link.is_symlink());
    }
}
