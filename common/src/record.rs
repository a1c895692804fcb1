//! The records in a pod directory, by which the processes of a running pod are found.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The longest record of a pod: one names a path at most (`PATH_MAX` in limits.h).
const LONGEST_RECORD: u64 = 4096;

/// What a small file of the pod directory says (`subcgroup`, `pid`, `ppid`); `None` when it
/// is not there. Whatever somebody has put in its place meanwhile is not followed, waited for, nor read without an end.
///
/// # Errors
/// When it is a link or anything else but a regular file, or longer than 4096 bytes.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    file.take(LONGEST_RECORD + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST_RECORD {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn records_are_short_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plain"), "/a").unwrap();
        fs::write(at("long"), "/".repeat(4097)).unwrap();
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("plain", at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::RWXU).unwrap();
        assert_eq!(read(&at("plain")).unwrap().as_deref(), Some("/a"));
        assert_eq!(read(&at("none")).unwrap(), None);
        for name in ["long", "folder", "link", "fifo"] {
            assert!(read(&at(name)).is_err(), "{name}");
        }
    }
}
