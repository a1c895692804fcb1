//! Where things are in the store, and the lock on it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::appc::ImageId;
use oci_spec::image::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::delete;
use super::tree::TreeId;

/// The directories of an open store.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    lock: File,
}

impl Layout {
    /// Opens the store below `root`, and removes what processes have left that died.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let context = |path: &Path| format!("make {}", path.display());
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent).with_context(|| context(parent))?;
        }
        // Images may have set-user-ID programs, and secrets: nobody else may reach them here.
        for path in [
            root.to_owned(),
            root.join("blobs"),
            root.join("images"),
            root.join("trees"),
            root.join("tmp"),
        ] {
            make_directory(&path).with_context(|| context(&path))?;
        }
        let lock_path = root.join("lock");
        let open = || {
            let mut options = File::options();
            options
                .create(true)
                .write(true)
                .truncate(false)
                .open(&lock_path)
        };
        let layout = Self {
            root: root.to_owned(),
            lock: open().with_context(|| format!("open {}", lock_path.display()))?,
        };
        layout.lock_shared()?;
        Ok(layout)
    }

    fn lock_shared(&self) -> Result<()> {
        let context = || format!("lock {}", self.root.display());
        match flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            // Alone: what is unfinished now, nobody will finish.
            Ok(()) => self.remove_unfinished()?,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(context),
        }
        flock(&self.lock, FlockOperation::LockShared).with_context(context)
    }

    fn remove_unfinished(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        let empty = || delete::content(File::open(&tmp)?).map_err(io::Error::from);
        empty().with_context(|| format!("empty {}", tmp.display()))
    }

    /// Waits until no other process uses the store, then does `work`, during which none can.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // The kernel gives the shared lock up first, so two processes that want this don't wait for each other.
        flock(&self.lock, FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", self.root.display()))?;
        let result = work();
        flock(&self.lock, FlockOperation::LockShared)
            .with_context(|| format!("lock {}", self.root.display()))?;
        result
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs()
            .join(digest.algorithm().as_ref())
            .join(digest.digest())
    }

    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn image(&self, id: &ImageId) -> PathBuf {
        self.images().join(id.as_str())
    }

    pub(super) fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    pub(super) fn tree(&self, id: &TreeId) -> PathBuf {
        self.trees().join(id.as_str())
    }

    /// A lock that only those who render this tree take.
    pub(super) fn lock_tree(&self, id: &TreeId) -> Result<TreeLock> {
        // Below `tmp`, so that it goes with all else that is unfinished.
        let path = self.root.join("tmp").join(format!("{id}.lock"));
        let open = || {
            let mut options = File::options();
            options.create(true).write(true).truncate(false).open(&path)
        };
        let file = open().with_context(|| format!("open {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(TreeLock { path, _file: file })
    }

    /// A new directory for what is being made.
    pub(super) fn scratch(&self) -> Result<Scratch> {
        Scratch::new(&self.root.join("tmp"))
    }
}

/// The right to render a tree.
#[derive(Debug)]
pub(super) struct TreeLock {
    path: PathBuf,
    _file: File,
}

impl Drop for TreeLock {
    fn drop(&mut self) {
        // One who waits for this file and one who makes it anew may then both render the tree, unless
        // it is there already; that is a waste and no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// A temporary directory, removed with all that is still in it.
#[derive(Debug)]
pub(super) struct Scratch {
    parent: File,
    path: PathBuf,
}

impl Scratch {
    /// Makes one in the directory `parent`.
    pub(super) fn new(parent: &Path) -> Result<Self> {
        let make = || -> io::Result<_> {
            let path = tempfile::Builder::new()
                .prefix("new-")
                .tempdir_in(parent)?
                .keep();
            Ok(Self {
                parent: File::open(parent)?,
                path,
            })
        };
        make().with_context(|| format!("make a directory in {}", parent.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the directory to `target`, in one step. That `target` is there already is no error: then it
    /// is the same.
    pub(super) fn publish(self, target: &Path) -> Result<()> {
        let context = || format!("move {} to {}", self.path.display(), target.display());
        match fs::rename(&self.path, target) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.with_context(context),
        }
    }

    /// Removes the directory with what is in it.
    pub(super) fn remove(self) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        Ok(delete::all(&self.parent, name)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        // What cannot be removed now is removed by the next process that has the store for itself.
        let _ = delete::all(&self.parent, name);
    }
}

/// Makes a directory that only its owner may enter.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
