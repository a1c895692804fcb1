//! Copies the content of one directory into another, by descriptors, without following a link: what a volume
//! starts with is the image's, and images are not trusted.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// Copies everything in `from`, which is open for reading, into `to`, and gives `to` the mode and owner of
/// `from`. Directories, regular files and symlinks are copied, with modes, owners and times; other kinds are not.
pub fn directory(from: impl AsFd, to: impl AsFd) -> Result<()> {
    for entry in Dir::read_from(&from).context("read a directory of the image")? {
        let entry = entry.context("read a directory of the image")?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            one(from.as_fd(), to.as_fd(), name)
                .with_context(|| format!("copy {}", name.to_string_lossy()))?;
        }
    }
    like(&fs::fstat(&from)?, &to)
}

fn one(from: impl AsFd, to: impl AsFd, name: &CStr) -> Result<()> {
    let stat = fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            fs::mkdirat(&to, name, Mode::from_raw_mode(0o700))?;
            let below = OFlags::DIRECTORY | read;
            let target = fs::openat(&to, name, below, Mode::empty())?;
            directory(fs::openat(&from, name, below, Mode::empty())?, target)
        }
        FileType::RegularFile => {
            let mut source = File::from(fs::openat(
                &from,
                name,
                read | OFlags::NONBLOCK,
                Mode::empty(),
            )?);
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut target = File::from(fs::openat(&to, name, write, Mode::from_raw_mode(0o600))?);
            std::io::copy(&mut source, &mut target)?;
            like(&stat, &target)
        }
        FileType::Symlink => {
            let target = fs::readlinkat(&from, name, Vec::new())?;
            fs::symlinkat(target, &to, name)?;
            let (uid, gid) = owner(&stat);
            Ok(fs::chownat(&to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        _ => Ok(()),
    }
}

fn owner(stat: &Stat) -> (Option<fs::Uid>, Option<fs::Gid>) {
    (
        Some(fs::Uid::from_raw(stat.st_uid)),
        Some(fs::Gid::from_raw(stat.st_gid)),
    )
}

/// Gives a file or directory the owner, mode and times of another.
fn like(stat: &Stat, target: impl AsFd) -> Result<()> {
    let (uid, gid) = owner(stat);
    fs::fchown(&target, uid, gid)?;
    // After the owner, whose change clears the setuid bit.
    fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |sec, nsec| fs::Timespec {
        tv_sec: sec,
        tv_nsec: nsec,
    };
    let times = fs::Timestamps {
        last_access: time(stat.st_atime, i64::try_from(stat.st_atime_nsec)?),
        last_modification: time(stat.st_mtime, i64::try_from(stat.st_mtime_nsec)?),
    };
    Ok(fs::futimens(&target, &times)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{
        Permissions, create_dir_all, metadata, read_link, read_to_string, set_permissions, write,
    };
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn modes_links_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        create_dir_all(from.join("sub")).unwrap();
        create_dir_all(&to).unwrap();
        write(from.join("sub/file"), "content").unwrap();
        set_permissions(from.join("sub/file"), Permissions::from_mode(0o4711)).unwrap();
        set_permissions(&from, Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        directory(File::open(&from).unwrap(), File::open(&to).unwrap()).unwrap();
        assert_eq!(read_to_string(to.join("sub/file")).unwrap(), "content");
        assert_eq!(
            metadata(to.join("sub/file")).unwrap().permissions().mode() & 0o7777,
            0o4711
        );
        assert_eq!(metadata(&to).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(
            read_link(to.join("link")).unwrap().to_str(),
            Some("/etc/passwd")
        );
    }
}
