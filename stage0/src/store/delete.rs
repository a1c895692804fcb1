//! Deleting trees that come from images.
//!
//! Directories are opened one at a time by their path from the top, not one inside the other: an image can nest
//! them deeper than a process may have files open.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Deletes `name` in the directory `parent`, whatever it is; that it is not there is no error.
pub(super) fn all(parent: impl AsFd, name: &OsStr) -> Result<()> {
    let parent = parent.as_fd();
    let mut stack = vec![PathBuf::from(name)];
    while let Some(path) = stack.pop() {
        let Some(file) = path.file_name() else {
            return Err(Errno::INVAL);
        };
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => directory(parent, above)?,
            _ => directory(parent, Path::new("."))?,
        };
        match fs::unlinkat(&above, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        match fs::unlinkat(&above, file, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let names = names(&directory(parent, &path)?)?;
        let below: Vec<_> = names.into_iter().map(|(name, _)| path.join(name)).collect();
        stack.push(path);
        stack.extend(below);
    }
    Ok(())
}

/// Deletes everything in the directory `path`.
pub(super) fn content(directory: impl AsFd) -> Result<()> {
    for (name, _) in names(&directory)? {
        all(&directory, &name)?;
    }
    Ok(())
}

/// The names in a directory, in order.
pub(super) fn names(directory: impl AsFd) -> Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    // Reading goes by a descriptor of its own, since that one's offset moves.
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

fn directory(parent: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    fs::openat2(parent, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;

    #[test]
    fn trees_go_and_what_links_point_at_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("kept")).unwrap();
        std::fs::write(path("kept/file"), "").unwrap();
        std::fs::create_dir_all(path("tree/a/b/c")).unwrap();
        std::fs::write(path("tree/a/file"), "").unwrap();
        symlink("../kept", path("tree/link")).unwrap();
        symlink("tree", path("alias")).unwrap();
        let parent = File::open(dir.path()).unwrap();
        for name in ["tree", "alias", "missing"] {
            all(&parent, OsStr::new(name)).unwrap();
            assert!(path(name).symlink_metadata().is_err());
        }
        assert!(path("kept/file").exists());
    }

    #[test]
    fn deeper_than_descriptors_allow() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x/".repeat(1500));
        std::fs::create_dir_all(deep).unwrap();
        all(File::open(dir.path()).unwrap(), OsStr::new("x")).unwrap();
        assert!(!dir.path().join("x").exists());
    }
}
