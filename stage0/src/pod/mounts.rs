//! Mounts below a pod directory.

use std::cmp::Reverse;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Whether something is mounted on `path`.
pub fn is_mounted(path: &Path, proc: &Path) -> Result<bool> {
    let path = canonical(path)?;
    Ok(mount_points(proc)?.contains(&path))
}

/// Fails unless `path`, from `base`, is there and no symbolic link is on the way: who goes there stays below `base`.
pub fn no_links(base: &Path, path: &Path) -> Result<()> {
    let context = || format!("find {} without links", base.join(path).display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::open(base, flags, Mode::empty()).with_context(context)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(dir, path, flags, Mode::empty(), resolve).with_context(context)?;
    Ok(())
}

/// Unmounts everything below `dir`, the deepest first. Something that cannot be unmounted is an error.
pub fn unmount_below(dir: &Path, proc: &Path) -> Result<()> {
    let dir = canonical(dir)?;
    // What lies on top of another mount is seen only once that is gone, so look again as long as there is progress.
    let mut before = usize::MAX;
    loop {
        let mut below = mount_points(proc)?;
        below.retain(|mount| mount.starts_with(&dir));
        let Some(first) = below.first() else {
            return Ok(());
        };
        if below.len() >= before {
            bail!("unmount {}: it is still mounted", first.display());
        }
        before = below.len();
        // Stable, on the reverse of the order of mounting: of mounts on one path the last goes first.
        below.reverse();
        below.sort_by_key(|mount| Reverse(mount.components().count()));
        for mount in below {
            unmount_one(&mount)?;
        }
    }
}

fn unmount_one(mount: &Path) -> Result<()> {
    match unmount(mount, UnmountFlags::NOFOLLOW) {
        // A process that is not the pod's holds on to it. It is out of our way all the same.
        Err(Errno::BUSY) => unmount(mount, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        // Went with another one.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other,
    }
    .with_context(|| format!("unmount {}", mount.display()))
}

/// All mount points of this process's mount namespace, in the order of mounting.
fn mount_points(proc: &Path) -> Result<Vec<PathBuf>> {
    let file = proc.join("self/mountinfo");
    let content = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    // The fifth field is the mount point (proc_pid_mountinfo(5)).
    Ok(content
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(unescape)
        .collect())
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

fn canonical(path: &Path) -> Result<PathBuf> {
    let canonical = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
    // Everything lies below the root: that must never be what is meant.
    if canonical.as_os_str().as_bytes() == b"/" {
        bail!("find {}: it is the root", path.display());
    }
    Ok(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        for (field, expected) in [
            ("/a", "/a"),
            (r"/a\040b\011\012\134c", "/a b\t\n\\c"),
            (r"/a\04", r"/a\04"),
            (r"/a\999", r"/a\999"),
            (r"\", r"\"),
        ] {
            assert_eq!(unescape(field.as_bytes()), PathBuf::from(expected));
        }
    }

    #[test]
    fn links_are_seen_anywhere_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/last")).unwrap();
        let check = |path: &str| no_links(dir.path(), Path::new(path));
        check("a/b").unwrap();
        for path in ["link", "link/b", "a/last", "../a", "/", "none"] {
            check(path).unwrap_err();
        }
    }

    #[test]
    fn reads_the_fifth_field() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "21 1 0:20 / / rw - ext4 /dev/vda rw\n40 21 0:30 / {} rw shared:1 - tmpfs t rw\n",
            dir.path().display()
        );
        fs::write(proc.path().join("self/mountinfo"), text).unwrap();
        assert!(is_mounted(dir.path(), proc.path()).unwrap());
        assert!(!is_mounted(proc.path(), proc.path()).unwrap());
        assert!(is_mounted(Path::new("/"), proc.path()).is_err());
        unmount_below(&proc.path().join("self"), proc.path()).unwrap();
    }
}
