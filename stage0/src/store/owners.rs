//! Giving the files of a rendered image to the ids of a pod's user namespace: its root's files are on the disk those of
//! the range's first id.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use common::id_range::IdRange;
use common::root::Root;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};

use super::{copy, delete};

/// Fails unless every file of the tree has an owner and a group that the pod has.
pub fn check(tree: &Path, range: IdRange) -> Result<()> {
    walk(tree, |_, _, stat| of_host(stat, range).map(drop))
}

/// Gives every file of the tree to the pod's ids, but for device nodes, which nobody can open any more: they are the
/// host's, and no rule of a cgroup restricts them in a user namespace.
pub fn shift(tree: &Path, range: IdRange) -> Result<()> {
    let mut linked = BTreeSet::new();
    walk(tree, |directory, name, stat| {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // Under its other names, too, it is one file.
        if !is_directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        one(directory, name, stat, range)
    })
}

/// Visits all of a tree, its root too, each file by its directory and its name in there. Directories are opened one at a
/// time, by their path from the top ([`delete`]).
fn walk(tree: &Path, mut visit: impl FnMut(&OwnedFd, &OsStr, &Stat) -> Result<()>) -> Result<()> {
    let root = Root::open(tree).with_context(|| format!("open {}", tree.display()))?;
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let context = |name: &OsStr| {
            let path = Path::new("/").join(&path).join(name);
            format!(
                "{}",
                common::root::normal(&path.to_string_lossy()).display()
            )
        };
        let here = OsStr::new(".");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = root
            .open_at(&path, flags)
            .with_context(|| context(OsStr::new("")))?;
        let names = delete::names(&directory).with_context(|| context(OsStr::new("")))?;
        let stat = fs::fstat(&directory)?;
        visit(&directory, here, &stat).with_context(|| context(OsStr::new("")))?;
        for (name, kind) in names {
            if kind == FileType::Directory {
                left.push(path.join(name));
                continue;
            }
            let visited = fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Into::into)
                .and_then(|stat| visit(&directory, &name, &stat));
            visited.with_context(|| context(&name))?;
        }
    }
    Ok(())
}

/// The owner and group that a file of the image has on the host.
fn of_host(stat: &Stat, range: IdRange) -> Result<(Uid, Gid)> {
    let owner = range.to_host(stat.st_uid).context("owner")?;
    let group = range.to_host(stat.st_gid).context("group")?;
    Ok((Uid::from_raw(owner), Gid::from_raw(group)))
}

fn one(directory: &OwnedFd, name: &OsStr, stat: &Stat, range: IdRange) -> Result<()> {
    let (owner, group) = of_host(stat, range)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if matches!(kind, FileType::BlockDevice | FileType::CharacterDevice) {
        return Ok(fs::chmodat(
            directory,
            name,
            Mode::empty(),
            AtFlags::empty(),
        )?);
    }
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        return Ok(fs::chownat(
            directory,
            name,
            Some(owner),
            Some(group),
            flags,
        )?);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty())?;
    let attributes = copy::attributes(&file)?;
    fs::fchown(&file, Some(owner), Some(group))?;
    // The change of the owner has cleared these, and capabilities.
    if stat.st_mode & 0o6000 != 0 {
        fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    for (name, value) in attributes {
        let shifted = attribute(&name, &value, range);
        let shifted = shifted.with_context(|| format!("attribute {name:?}"))?;
        if let Some(value) = shifted {
            set_attribute(&file, &name, &value)?;
        }
    }
    Ok(())
}

fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    fs::fsetxattr(file, name, value, XattrFlags::empty())
        .with_context(|| format!("set the attribute {name:?}"))
}

/// The value of an attribute that has ids in it.
fn attribute(name: &CStr, value: &[u8], range: IdRange) -> Result<Option<Vec<u8>>> {
    match name.to_bytes() {
        b"security.capability" => capability(value, range).map(Some),
        b"system.posix_acl_access" | b"system.posix_acl_default" => acl(value, range).map(Some),
        _ => Ok(None),
    }
}

/// File capabilities of revision 3, which name the root that they are for (`struct vfs_ns_cap_data`, linux/capability.h):
/// those without one are for the host's.
fn capability(value: &[u8], range: IdRange) -> Result<Vec<u8>> {
    const REVISION_MASK: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    let (magic, sets) = value.split_first_chunk::<4>().context("is too short")?;
    let magic = u32::from_le_bytes(*magic);
    let (sets, root) = match (magic & REVISION_MASK, sets.split_first_chunk::<16>()) {
        (REVISION_2, Some((sets, []))) => (sets, 0),
        (REVISION_3, Some((sets, root))) => {
            let root = root.first_chunk::<4>().context("is too short")?;
            (sets, u32::from_le_bytes(*root))
        }
        _ => bail!("is of an unknown revision"),
    };
    let magic = magic & !REVISION_MASK | REVISION_3;
    let mut shifted = magic.to_le_bytes().to_vec();
    shifted.extend(sets);
    shifted.extend(range.to_host(root)?.to_le_bytes());
    Ok(shifted)
}

/// An access control list: a version and entries of tag, permissions and id (linux/posix_acl_xattr.h).
fn acl(value: &[u8], range: IdRange) -> Result<Vec<u8>> {
    /// `ACL_USER` and `ACL_GROUP`: the other entries have no id.
    const WITH_ID: [u8; 2] = [0x02, 0x08];
    let (version, entries) = value.split_first_chunk::<4>().context("is too short")?;
    let mut shifted = version.to_vec();
    for entry in entries.chunks(8) {
        let (kind, id) = entry.split_first_chunk::<4>().context("is cut off")?;
        let id = id.first_chunk::<4>().context("is cut off")?;
        shifted.extend(kind);
        if WITH_ID.contains(&kind[0]) {
            let id = range.to_host(u32::from_le_bytes(*id))?;
            shifted.extend(id.to_le_bytes());
        } else {
            shifted.extend(id);
        }
    }
    Ok(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: IdRange = IdRange {
        shift: 0x0010_0000,
        count: 1000,
    };

    #[test]
    fn capabilities_name_their_root() {
        let of_host = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        let expected = [&[1, 0, 0, 3][..], &[7; 16], &[0, 0, 0x10, 0]].concat();
        assert_eq!(capability(&of_host, RANGE).unwrap(), expected);
        let of_user = [&[0, 0, 0, 3][..], &[7; 16], &[5, 0, 0, 0]].concat();
        let expected = [&[0, 0, 0, 3][..], &[7; 16], &[5, 0, 0x10, 0]].concat();
        assert_eq!(capability(&of_user, RANGE).unwrap(), expected);
        for bad in [
            &[][..],
            &[0, 0, 0, 1],
            &[0, 0, 0, 2, 1],
            &[1; 20],
            &[0, 0, 0, 3],
        ] {
            assert!(capability(bad, RANGE).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_access_control_lists() {
        let entry = |tag: u8, id: [u8; 4]| [[tag, 0, 6, 0], id].concat();
        let none = [0xff; 4];
        let list = |user: [u8; 4], group: [u8; 4]| {
            [
                vec![2, 0, 0, 0],
                entry(0x01, none),
                entry(0x02, user),
                entry(0x04, none),
                entry(0x08, group),
                entry(0x20, none),
            ]
            .concat()
        };
        let shifted = acl(&list([3, 0, 0, 0], [4, 0, 0, 0]), RANGE).unwrap();
        assert_eq!(shifted, list([3, 0, 0x10, 0], [4, 0, 0x10, 0]));
        let error = acl(&list([0, 0, 1, 0], [4, 0, 0, 0]), RANGE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "65536 is none of the 1000 ids of the pod's user namespace"
        );
        assert!(acl(&[2, 0, 0, 0, 1], RANGE).is_err());
    }

    #[test]
    fn each_file_is_shifted_once() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("sub/file"), "").unwrap();
        std::os::unix::fs::chown(path("sub/file"), Some(7), Some(8)).unwrap();
        for (name, mode) in [(".", 0o700), ("sub", 0o755), ("sub/file", 0o6755)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path(name), mode).unwrap();
        }
        std::fs::hard_link(path("sub/file"), path("link")).unwrap();
        symlink("/etc/passwd", path("symlink")).unwrap();
        let before = std::fs::metadata("/etc/passwd").unwrap().uid();
        shift(dir.path(), RANGE).unwrap();
        for (name, uid, gid, mode) in [
            (".", 0, 0, 0o700),
            ("sub", 0, 0, 0o755),
            ("sub/file", 7, 8, 0o6755),
            ("link", 7, 8, 0o6755),
            ("symlink", 0, 0, 0o777),
        ] {
            let stat = std::fs::symlink_metadata(path(name)).unwrap();
            let expected = (RANGE.shift + uid, RANGE.shift + gid, mode);
            assert_eq!(
                (stat.uid(), stat.gid(), stat.mode() & 0o7777),
                expected,
                "{name}"
            );
        }
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), before);
    }

    #[test]
    fn an_owner_without_an_id_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), "").unwrap();
        let own = rustix::process::geteuid().as_raw();
        let range = IdRange {
            shift: 1,
            count: own + 1,
        };
        check(dir.path(), range).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path().join("sub/file"), Some(0), Some(6)).unwrap();
            let range = IdRange { shift: 1, count: 6 };
            let error = format!("{:#}", check(dir.path(), range).unwrap_err());
            assert_eq!(
                error,
                "/sub/file: group: 6 is none of the 6 ids of the pod's user namespace"
            );
        }
    }
}
