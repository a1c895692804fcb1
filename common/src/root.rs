//! A directory tree that is not trusted: the root file system of an app.
//!
//! Every path is resolved by the kernel with `openat2(2)` and `RESOLVE_IN_ROOT`: `/`, `..` and symlinks,
//! absolute ones too, stay inside the tree, as they would after a chroot. `/proc`-style magic links are refused.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

/// How many dangling symlinks are followed on the way to a path that is to be made (as `MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// How often a path is resolved again that others' mounts have disturbed.
const MAX_TRIES: u32 = 1000;

/// The root of an untrusted tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// Who gets what is made; this process when nobody is named.
    owner: Option<(Uid, Gid)>,
}

impl Root {
    /// Opens the tree at `path`, which is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(fs::open(path, flags, Mode::empty())?.into())
    }

    /// Has what is made belong to whom the tree's root belongs to: with a user namespace that is the pod's.
    pub fn keep_owner(self) -> io::Result<Self> {
        let stat = fs::fstat(&self.fd)?;
        let owner = Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Root { owner, ..self })
    }

    /// Opens `path` inside the tree.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let open = || fs::openat2(&self.fd, path, flags, Mode::empty(), resolve);
        // openat2(2), EAGAIN: something was mounted or renamed anywhere on the machine while a `..` was followed.
        let mut opened = open();
        for _ in 0..MAX_TRIES {
            match opened {
                Err(Errno::AGAIN) => opened = open(),
                _ => break,
            }
        }
        opened
    }

    /// What `path` is, symlinks followed; `None` when there is nothing.
    pub fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fs::fstat(fd)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// The content of a regular file; `None` when there is nothing.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        // NONBLOCK: an image may hold a fifo by that name, and opening one must not wait.
        let fd = match self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        if !fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode).is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut content = Vec::new();
        File::from(fd).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// The directory `path`, made with its parents (mode 0755) where it is missing.
    pub fn make_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.make(path, Kind::Directory, MAX_LINKS)
    }

    /// The file `path`, of any kind but directory, made empty (mode 0644) with its parents where it is
    /// missing. The descriptor has `O_PATH`.
    pub fn make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        self.make(path, Kind::File, MAX_LINKS)
    }

    fn make(&self, path: &Path, kind: Kind, links: u32) -> io::Result<OwnedFd> {
        let flags = match kind {
            Kind::Directory => OFlags::PATH | OFlags::DIRECTORY,
            Kind::File => OFlags::PATH,
        };
        match self.open_at(path, flags) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let Some(name) = path.file_name() else {
            return Err(Errno::NOENT.into());
        };
        let parent_path = path.parent().unwrap_or(Path::new("/"));
        let parent = self.make(parent_path, Kind::Directory, links)?;
        match kind.make_at(&parent, name) {
            Ok(()) => self.give(&parent, name)?,
            // It is there, but cannot be opened: a dangling symlink, whose target is made instead.
            Err(Errno::EXIST) if links > 0 => {
                let target = match fs::readlinkat(&parent, name, Vec::new()) {
                    Ok(target) => target,
                    // Made by somebody else just now.
                    Err(Errno::INVAL) => return Ok(self.open_at(path, flags)?),
                    Err(err) => return Err(err.into()),
                };
                let target = parent_path.join(OsStr::from_bytes(target.as_bytes()));
                return self.make(&target, kind, links - 1);
            }
            Err(Errno::EXIST) => return Err(Errno::LOOP.into()),
            Err(err) => return Err(err.into()),
        }
        Ok(self.open_at(path, flags)?)
    }

    /// Gives what was made as `name` to its owner.
    fn give(&self, parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let Some((uid, gid)) = self.owner else {
            return Ok(());
        };
        fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }

    /// The symlink `name` to `target` in the directory `parent` of the tree.
    pub fn make_link(&self, target: &Path, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        fs::symlinkat(target, parent, name)?;
        Ok(self.give(parent, name)?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Root {
    /// A tree whose root is open already.
    fn from(fd: OwnedFd) -> Self {
        Root { fd, owner: None }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Directory,
    File,
}

impl Kind {
    fn make_at(self, parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        match self {
            Kind::Directory => fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
            Kind::File => {
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::WRONLY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        }
    }
}

/// An absolute path with `.` and empty parts left out, for comparing mount targets. `..` is kept: what it
/// means depends on symlinks.
pub fn normal(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    out.extend(
        path.split('/')
            .filter(|part| !part.is_empty() && *part != "."),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_stay_inside() {
        let (dir, root) = tree();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("climbing")).unwrap();
        for path in ["/etc/passwd", "absolute", "climbing", "/../../etc/passwd"] {
            assert_eq!(
                root.read(Path::new(path)).unwrap().unwrap(),
                b"inside",
                "{path}"
            );
        }
        assert_eq!(root.read(Path::new("/etc/shadow")).unwrap(), None);
    }

    #[test]
    fn renames_elsewhere_do_not_disturb() {
        let (dir, root) = tree();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&one, "").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let failed = (0..5000).find_map(|_| root.stat(Path::new("d/../d")).err());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn makes_what_is_missing_through_dangling_links() {
        let (dir, root) = tree();
        symlink("/run", dir.path().join("var")).unwrap();
        symlink("../data/there", dir.path().join("link")).unwrap();
        root.make_dir(Path::new("/var/lock/x")).unwrap();
        root.make_file(Path::new("/link")).unwrap();
        root.make_file(Path::new("/a/b/c")).unwrap();
        assert!(dir.path().join("run/lock/x").is_dir());
        assert!(dir.path().join("data/there").is_file());
        assert!(dir.path().join("a/b/c").is_file());
    }

    #[test]
    fn loops_and_fifos_are_errors() {
        let (dir, root) = tree();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(root.make_dir(Path::new("/a")).is_err());
        let mode = Mode::from_raw_mode(0o600);
        fs::mknodat(
            fs::CWD,
            dir.path().join("fifo"),
            fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        assert!(root.read(Path::new("/fifo")).is_err());
    }

    #[test]
    fn normal_paths() {
        assert_eq!(normal("//a/./b/"), Path::new("/a/b"));
        assert_eq!(normal("/"), Path::new("/"));
        assert_eq!(normal("/a/../b"), Path::new("/a/../b"));
    }
}
