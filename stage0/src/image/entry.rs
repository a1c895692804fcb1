//! Names of archive entries. Archives are hostile: a name is taken apart before it is used.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Error, Result, anyhow, bail};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Longest part of a message that is repeated.
const MAX_SHOWN: usize = 120;

/// The path of an archive entry below the root of the tree: relative, without `.` and doubled
/// slashes; empty for the root itself. `..` is refused.
pub fn path(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("entry {}: must not have '..' in its name", shown(name))
            }
        }
    }
    Ok(path)
}

/// A name for an error message.
pub fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

/// An error of the tar crate as one line that is safe to print: its messages repeat what is in the archive.
pub fn unreadable(error: io::Error) -> Error {
    let mut text = String::from("is no valid tar archive");
    for cause in Error::from(error).chain() {
        let cause = cause.to_string();
        let shown = cause.split(" when getting ").next().unwrap_or_default();
        text.push_str(": ");
        text.extend(shown.chars().filter(|c| !c.is_control()).take(MAX_SHOWN));
    }
    anyhow!(text)
}

/// What the name of an entry means in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEntry {
    /// A file of the layer.
    Plain(PathBuf),
    /// Lower layers' file of this path is gone.
    Whiteout(PathBuf),
    /// Lower layers' content of this directory is gone.
    Opaque(PathBuf),
    /// Bookkeeping of a storage driver.
    Ignored,
}

/// Tells whiteouts from files.
pub fn layer_entry(name: &[u8]) -> Result<LayerEntry> {
    let path = path(name)?;
    let starts = |part: &OsStr, with| part.as_bytes().starts_with(with);
    let Some(file) = path.file_name() else {
        return Ok(LayerEntry::Plain(path));
    };
    if file.as_bytes() == OPAQUE {
        return Ok(LayerEntry::Opaque(parent(&path)));
    }
    if path.iter().any(|part| starts(part, WHITEOUT_META)) {
        return Ok(LayerEntry::Ignored);
    }
    let Some(hidden) = file.as_bytes().strip_prefix(WHITEOUT) else {
        return Ok(LayerEntry::Plain(path));
    };
    if matches!(hidden, b"" | b"." | b"..") {
        bail!("entry {}: whiteout of no file", shown(name));
    }
    Ok(LayerEntry::Whiteout(
        parent(&path).join(OsStr::from_bytes(hidden)),
    ))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// What the name of an entry means in an App Container Image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AciEntry {
    /// The manifest.
    Manifest,
    /// A path below the root file system.
    Rootfs(PathBuf),
    /// The root of the archive.
    Top,
}

/// Tells the manifest from the root file system.
pub fn aci_entry(name: &[u8]) -> Result<AciEntry> {
    let path = path(name)?;
    if path.as_os_str().is_empty() {
        return Ok(AciEntry::Top);
    }
    if path == Path::new("manifest") {
        return Ok(AciEntry::Manifest);
    }
    match path.strip_prefix("rootfs") {
        Ok(below) => Ok(AciEntry::Rootfs(below.to_owned())),
        Err(_) => bail!(
            "entry {}: an ACI has only 'manifest' and 'rootfs/'",
            shown(name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (name, expected) in [
            ("./a//b/./c", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("dir/", "dir"),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(path(name.as_bytes()).unwrap(), Path::new(expected));
        }
        assert_eq!(path(b"\xff").unwrap().as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn climbing_names_are_refused() {
        for name in ["../a", "a/../../b", "/..", "a/.."] {
            let error = path(name.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("must not have '..'"), "{error}");
        }
    }

    #[test]
    fn whiteouts() {
        let entry = |name: &str| layer_entry(name.as_bytes()).unwrap();
        assert_eq!(entry("a/b"), LayerEntry::Plain("a/b".into()));
        assert_eq!(entry("a/.wh.b"), LayerEntry::Whiteout("a/b".into()));
        assert_eq!(entry(".wh.b"), LayerEntry::Whiteout("b".into()));
        assert_eq!(entry("a/.wh..wh..opq"), LayerEntry::Opaque("a".into()));
        assert_eq!(entry(".wh..wh..opq"), LayerEntry::Opaque("".into()));
        assert_eq!(entry(".wh..wh.plnk/1.2"), LayerEntry::Ignored);
        assert!(layer_entry(b"a/.wh.").is_err());
        assert!(layer_entry(b"a/.wh...").is_err());
    }

    #[test]
    fn aci_names() {
        let entry = |name: &str| aci_entry(name.as_bytes()).unwrap();
        assert_eq!(entry("./manifest"), AciEntry::Manifest);
        assert_eq!(entry("rootfs"), AciEntry::Rootfs("".into()));
        assert_eq!(entry("rootfs/bin/sh"), AciEntry::Rootfs("bin/sh".into()));
        assert_eq!(entry("."), AciEntry::Top);
        assert!(aci_entry(b"rootfs2").is_err());
        assert!(aci_entry(b"rootfs/../manifest").is_err());
    }
}
