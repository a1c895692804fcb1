//! Unpacking the layers of images.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Timespec};
use serde::{Deserialize, Serialize};
use tar::{Archive, Entry, EntryType};

use super::metadata::Metadata;
use super::sparse;
use super::writer::TreeWriter;
use crate::image::entry::{self, AciEntry, LayerEntry};

/// What the entries of an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// An App Container Image: the files are below `rootfs/`.
    Aci,
    /// A layer of an OCI image: names may be whiteouts.
    Layer,
}

/// What is known of an archive once it has been read through.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Whether it hides files of lower layers.
    pub whiteouts: bool,
    /// The manifest of an ACI.
    pub manifest: Option<Vec<u8>>,
}

/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 16 << 20;

/// Reads through an archive, checking the names of its entries.
pub(super) fn scan(archive: impl Read, format: Format) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut rootfs = false;
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry.map_err(entry::unreadable)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        match format {
            Format::Layer => {
                let meaning = entry::layer_entry(&entry.path_bytes())?;
                contents.whiteouts |=
                    matches!(meaning, LayerEntry::Whiteout(_) | LayerEntry::Opaque(_));
            }
            Format::Aci => match entry::aci_entry(&entry.path_bytes())? {
                AciEntry::Manifest if contents.manifest.is_some() => bail!("has two manifests"),
                AciEntry::Manifest => {
                    let mut manifest = Vec::new();
                    entry
                        .by_ref()
                        .take(MAX_MANIFEST)
                        .read_to_end(&mut manifest)?;
                    contents.manifest = Some(manifest);
                }
                AciEntry::Rootfs(_) => rootfs = true,
                AciEntry::Top => {}
            },
        }
    }
    if format == Format::Aci && !rootfs {
        bail!("has no rootfs");
    }
    Ok(contents)
}

/// Takes away what a layer hides. This comes before anything of the layer is unpacked, since a whiteout
/// hides only files of lower layers, wherever in the archive it stands.
pub(super) fn whiteouts(archive: impl Read, writer: &mut TreeWriter) -> Result<()> {
    for entry in Archive::new(archive).entries()? {
        let entry = entry.map_err(entry::unreadable)?;
        match entry::layer_entry(&entry.path_bytes())? {
            LayerEntry::Whiteout(path) => writer
                .remove(&path)
                .with_context(|| format!("remove {path:?}"))?,
            LayerEntry::Opaque(path) => writer
                .clear(&path)
                .with_context(|| format!("empty {path:?}"))?,
            LayerEntry::Plain(_) | LayerEntry::Ignored => {}
        }
    }
    Ok(())
}

/// Unpacks an archive over what is there.
pub(super) fn unpack(archive: impl Read, format: Format, writer: &mut TreeWriter) -> Result<()> {
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry.map_err(entry::unreadable)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let extensions = Extensions::read(&mut entry)?;
        let name = match &extensions.sparse {
            Some(sparse) => sparse.name.clone(),
            None => entry.path_bytes().into_owned(),
        };
        if let Some(path) = placed(&name, format)? {
            write(&mut entry, extensions, format, &path, writer)
                .with_context(|| format!("unpack {}", entry::shown(&name)))?;
        }
    }
    Ok(())
}

/// Where an entry goes in the tree, if it does.
fn placed(name: &[u8], format: Format) -> Result<Option<PathBuf>> {
    Ok(match format {
        Format::Aci => match entry::aci_entry(name)? {
            AciEntry::Rootfs(path) => Some(path),
            AciEntry::Manifest | AciEntry::Top => None,
        },
        Format::Layer => match entry::layer_entry(name)? {
            LayerEntry::Plain(path) => Some(path),
            LayerEntry::Whiteout(_) | LayerEntry::Opaque(_) | LayerEntry::Ignored => None,
        },
    })
}

fn write<R: Read>(
    entry: &mut Entry<R>,
    extensions: Extensions,
    format: Format,
    path: &Path,
    writer: &mut TreeWriter,
) -> Result<()> {
    let metadata = metadata(entry, &extensions)?;
    let link = |entry: &Entry<R>| entry.link_name_bytes().map(|name| name.into_owned());
    match entry.header().entry_type() {
        // Archives from before directories had a type mark them by a slash.
        EntryType::Regular if entry.path_bytes().ends_with(b"/") => {
            writer.directory(path, &metadata)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            match &extensions.sparse {
                Some(found) => {
                    let (size, mut content) = sparse::expand(entry, found)?;
                    writer.file(path, &metadata, size, &mut content)
                }
                None => writer.file(path, &metadata, entry.size(), entry),
            }
        }
        EntryType::Directory => writer.directory(path, &metadata),
        EntryType::Symlink => {
            let target = link(entry).context("symlink to nothing")?;
            writer.symlink(path, OsStr::from_bytes(&target), &metadata)
        }
        EntryType::Link => {
            let target = link(entry).context("hard link to nothing")?;
            match placed(&target, format).context("hard link")? {
                Some(target) => writer.hard_link(path, &target),
                None => bail!(
                    "hard link to {}, which is not in the tree",
                    entry::shown(&target)
                ),
            }
        }
        EntryType::Fifo => writer.node(path, FileType::Fifo, 0, &metadata),
        EntryType::Char => writer.node(path, FileType::CharacterDevice, device(entry)?, &metadata),
        EntryType::Block => writer.node(path, FileType::BlockDevice, device(entry)?, &metadata),
        other => bail!(
            "its type {:?} is not supported",
            char::from(other.as_byte())
        ),
    }
}

fn device<R: Read>(entry: &Entry<R>) -> Result<u64> {
    let major = entry.header().device_major()?.unwrap_or_default();
    let minor = entry.header().device_minor()?.unwrap_or_default();
    Ok(rustix::fs::makedev(major, minor))
}

fn metadata<R: Read>(entry: &Entry<R>, extensions: &Extensions) -> Result<Metadata> {
    let header = entry.header();
    let id = |what: &str, id: io::Result<u64>| -> Result<u32> {
        let id = id.with_context(|| what.to_owned())?;
        u32::try_from(id).with_context(|| format!("{what} {id}"))
    };
    // Times before 1970 are not worth refusing an image for.
    let seconds = i64::try_from(header.mtime().unwrap_or_default()).unwrap_or_default();
    Ok(Metadata {
        mode: header.mode()?,
        uid: id("user id", header.uid())?,
        gid: id("group id", header.gid())?,
        mtime: extensions.mtime.unwrap_or(Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        }),
        xattrs: extensions.xattrs.clone(),
    })
}

/// What PAX records say about an entry beyond the ones that are understood below us.
#[derive(Debug, Default)]
struct Extensions {
    mtime: Option<Timespec>,
    xattrs: Vec<(CString, Vec<u8>)>,
    sparse: Option<sparse::Description>,
}

impl Extensions {
    fn read<R: Read>(entry: &mut Entry<R>) -> Result<Self> {
        let mut found = Self::default();
        let mut sparse = sparse::Records::default();
        let Some(records) = entry.pax_extensions()? else {
            return Ok(found);
        };
        for record in records {
            let record = record?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            if key == b"mtime" {
                found.mtime = std::str::from_utf8(value).ok().and_then(timestamp);
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                if is_kept(name) {
                    found.xattrs.push((CString::new(name)?, value.to_vec()));
                }
            } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                sparse.add(key, value);
            }
        }
        found.sparse = sparse.description()?;
        Ok(found)
    }
}

/// Which extended attributes an image may bring. Others belong to the machine that made it, such as
/// SELinux labels, or would be taken for overlayfs's own.
pub(super) fn is_kept(name: &[u8]) -> bool {
    let acl = [&b"system.posix_acl_access"[..], b"system.posix_acl_default"];
    let overlay = name.starts_with(b"user.overlay.");
    name == b"security.capability"
        || acl.contains(&name)
        || (name.starts_with(b"user.") && !overlay)
}

/// `SECONDS[.FRACTION]`.
fn timestamp(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<9}");
    Some(Timespec {
        tv_sec: seconds.parse().ok()?,
        tv_nsec: digits.get(..9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_fractions() {
        let time = |text| timestamp(text).map(|t| (t.tv_sec, t.tv_nsec));
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.1234567891"), Some((12, 123_456_789)));
        assert_eq!(time("12.x"), None);
        assert_eq!(time(""), None);
    }

    #[test]
    fn attributes_of_the_host_are_not_taken_over() {
        for (name, kept) in [
            ("security.capability", true),
            ("user.comment", true),
            ("system.posix_acl_access", true),
            ("security.selinux", false),
            ("trusted.overlay.redirect", false),
            ("user.overlay.opaque", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
