//! Writing a tree of files that hostile archives describe.
//!
//! The kernel resolves each path with the tree as its root, so that no symlink leads out of it, and
//! the last part of a path is never followed: an entry replaces a symlink, it does not write through it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use common::root::Root;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, Timespec};
use rustix::io::Errno;

use super::delete;
use super::metadata::{EPOCH, Metadata, set, set_named, times};

/// The blocks in which holes are looked for.
const BLOCK: usize = 1 << 16;

/// Makes a tree, entry by entry. A later entry replaces an earlier one of the same path; a directory
/// keeps what is in it.
pub(super) struct TreeWriter {
    root: Root,
    /// Times of directories are set last, since making files in them changes them.
    directories: BTreeMap<PathBuf, Timespec>,
    /// The directory that was written to last: most entries follow one of the same directory.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

impl TreeWriter {
    /// Writes into `directory`, which becomes the root of the tree.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            root: Root::open(directory)?,
            directories: BTreeMap::new(),
            last: None,
        })
    }

    /// Sets the times of directories.
    pub(super) fn finish(self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        for (path, mtime) in &self.directories {
            match self.root.open_at(in_root(path), flags) {
                Ok(fd) => fs::futimens(&fd, &times(*mtime))
                    .with_context(|| format!("set times of {path:?}"))?,
                // A later entry has replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("open {path:?}"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn directory(&mut self, path: &Path, metadata: &Metadata) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match path.file_name() {
            None => self.root.open_at(Path::new("."), flags)?,
            Some(name) => {
                let parent = self.parent(path)?;
                match stat(&parent, name)? {
                    Some(found) if kind(&found) == FileType::Directory => {}
                    found => {
                        if found.is_some() {
                            self.delete(&parent, name)?;
                        }
                        fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
                    }
                }
                fs::openat(&parent, name, flags, Mode::empty())?
            }
        };
        set(&directory, metadata)?;
        self.directories.insert(path.to_owned(), metadata.mtime);
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let (parent, name) = self.room(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(fs::openat(&parent, name, flags | OFlags::CLOEXEC, mode)?);
        write_sparse(&mut file, size, content)?;
        set(&file, metadata)?;
        fs::futimens(&file, &times(metadata.mtime))?;
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        path: &Path,
        target: &OsStr,
        metadata: &Metadata,
    ) -> Result<()> {
        let (parent, name) = self.room(path)?;
        fs::symlinkat(target, &parent, name)?;
        set_named(&parent, name, metadata)
    }

    /// Makes `path` another name of `target`, which must be in the tree. A symlink is not followed.
    pub(super) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let missing = || format!("hard link to {target:?}, which is not in the tree");
        let Some(target_name) = target.file_name() else {
            bail!(missing());
        };
        let above = in_root(target.parent().unwrap_or(Path::new("")));
        let above = match self.root.open_at(above, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => bail!(missing()),
            other => other?,
        };
        let Some(found) = stat(&above, target_name)? else {
            bail!(missing());
        };
        if kind(&found) == FileType::Directory {
            bail!("hard link to {target:?}, which is a directory");
        }
        if let Some(name) = path.file_name() {
            let parent = self.parent(path)?;
            let same = |s: Stat| (s.st_dev, s.st_ino) == (found.st_dev, found.st_ino);
            if stat(&parent, name)?.is_some_and(same) {
                return Ok(());
            }
        }
        let (parent, name) = self.room(path)?;
        match fs::linkat(&above, target_name, &parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => bail!(missing()),
            other => Ok(other?),
        }
    }

    /// Makes a device node, a fifo or a socket.
    pub(super) fn node(
        &mut self,
        path: &Path,
        kind: FileType,
        device: fs::Dev,
        metadata: &Metadata,
    ) -> Result<()> {
        let (parent, name) = self.room(path)?;
        fs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), device)
            .context("make the node")?;
        set_named(&parent, name, metadata)?;
        // Not before the owner: this keeps set-user-ID bits, and the node is no symlink.
        let mode = Mode::from_raw_mode(metadata.mode & 0o7777);
        fs::chmodat(&parent, name, mode, AtFlags::empty())?;
        Ok(())
    }

    /// Removes `path`, if it is there.
    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name() else {
            bail!("the root cannot be removed");
        };
        let above = in_root(path.parent().unwrap_or(Path::new("")));
        match self.root.open_at(above, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(parent) => self.delete(&parent, name),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is in the directory `path`, if it is one.
    pub(super) fn clear(&mut self, path: &Path) -> Result<()> {
        self.last = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match self.root.open_at(in_root(path), flags) {
            Ok(directory) => Ok(delete::content(&directory)?),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the directory `path` if nothing is there.
    pub(super) fn ensure_directory(&mut self, path: &Path) -> Result<()> {
        self.parent(&path.join("file")).map(drop)
    }

    /// Where to make `path`: its parent, which is made if need be, and its name, which is free.
    fn room<'p>(&mut self, path: &'p Path) -> Result<(Rc<OwnedFd>, &'p OsStr)> {
        let Some(name) = path.file_name() else {
            bail!("the root must be a directory");
        };
        let parent = self.parent(path)?;
        if stat(&parent, name)?.is_some() {
            self.delete(&parent, name)?;
        }
        Ok((parent, name))
    }

    fn delete(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        // It may be, or lead to, the directory that was used last.
        self.last = None;
        Ok(delete::all(parent, name)?)
    }

    fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((last, fd)) = &self.last {
            if last == parent {
                return Ok(fd.clone());
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = match self.root.open_at(in_root(parent), flags) {
            Err(Errno::NOENT) => self.make_parents(parent)?,
            other => other.with_context(|| format!("open {parent:?}"))?,
        };
        let fd = Rc::new(fd);
        self.last = Some((parent.to_owned(), fd.clone()));
        Ok(fd)
    }

    /// Makes directories that the archive does not list.
    fn make_parents(&mut self, path: &Path) -> Result<OwnedFd> {
        let mut ancestors: Vec<_> = path.ancestors().collect();
        ancestors.reverse();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut opened = self.root.open_at(Path::new("."), flags)?;
        for ancestor in ancestors.into_iter().filter(|a| !a.as_os_str().is_empty()) {
            let context = || format!("make {ancestor:?}");
            opened = match self.root.open_at(ancestor, flags) {
                Err(Errno::NOENT) => {
                    self.root
                        .make_dir(&Path::new("/").join(ancestor))
                        .with_context(context)?;
                    let made = self.root.open_at(ancestor, flags).with_context(context)?;
                    fs::fchmod(&made, Mode::from_raw_mode(0o755)).with_context(context)?;
                    self.directories.insert(ancestor.to_owned(), EPOCH);
                    made
                }
                other => other.with_context(context)?,
            };
        }
        Ok(opened)
    }
}

fn in_root(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn stat(parent: &OwnedFd, name: &OsStr) -> Result<Option<Stat>> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Writes `size` bytes, leaving holes where there are only zeros.
fn write_sparse(file: &mut File, size: u64, content: &mut dyn Read) -> Result<()> {
    if size > BLOCK as u64 {
        // For holes at the end; and sizes that cannot be are noticed before anything is written.
        file.set_len(size).context("set the size")?;
    }
    let mut buffer = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))];
    let mut left = size;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(BLOCK));
        let block = &mut buffer[..want];
        content.read_exact(block)?;
        if want == BLOCK && block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(BLOCK as i64))?;
        } else {
            file.write_all(block)?;
        }
        left -= want as u64;
    }
    Ok(())
}
