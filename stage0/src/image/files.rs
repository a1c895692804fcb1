//! The files of an image layout, whether it is a directory or a tar archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tar::{Archive, EntryType};

use super::compression::{self, Compression};
use super::entry;

/// Largest JSON document that is read: those of real images are a few kilobytes.
const MAX_JSON: u64 = 16 << 20;
/// How many links are followed inside an archive.
const MAX_LINKS: u32 = 8;

/// A set of named files.
#[derive(Debug)]
pub struct Files {
    /// The directory or archive.
    pub path: PathBuf,
    archive: Option<Index>,
}

/// Where each member of an uncompressed archive is.
#[derive(Debug)]
struct Index {
    file: Arc<File>,
    members: HashMap<PathBuf, Member>,
}

#[derive(Debug, Clone)]
enum Member {
    File { start: u64, size: u64 },
    Link(PathBuf),
}

impl Files {
    /// The files of a directory.
    pub fn directory(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            archive: None,
        }
    }

    /// The members of a tar archive. A compressed one is first written, uncompressed, to a file
    /// without a name in the directory `scratch`.
    pub fn archive(path: &Path, scratch: &Path) -> Result<Self> {
        let file = plain_file(File::open(path)?, scratch)?;
        Ok(Self {
            path: path.to_owned(),
            archive: Some(Index::read(file)?),
        })
    }

    /// Whether there is a file of that name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.archive {
            Some(index) => index.find(name).is_some(),
            None => self.path.join(name).is_file(),
        }
    }

    /// Opens a file, and says how large it is.
    pub fn open(&self, name: &str) -> Result<(Box<dyn Read>, u64)> {
        let Some(index) = &self.archive else {
            let path = self.path.join(name);
            let open = || -> io::Result<_> {
                let file = File::open(&path)?;
                let metadata = file.metadata()?;
                Ok((file, metadata))
            };
            let (file, metadata) = open().with_context(|| name.to_owned())?;
            if !metadata.is_file() {
                bail!("{name}: is no regular file");
            }
            return Ok((Box::new(file), metadata.len()));
        };
        let Some((start, size)) = index.find(name) else {
            bail!("has no file {name:?}");
        };
        let slice = Slice {
            file: index.file.clone(),
            at: start,
            end: start + size,
        };
        Ok((Box::new(slice), size))
    }

    /// Reads a whole file that holds a document.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let (reader, size) = self.open(name)?;
        if size > MAX_JSON {
            bail!("{name}: {size} bytes are too many");
        }
        let mut content = Vec::new();
        let read = reader.take(MAX_JSON).read_to_end(&mut content);
        read.with_context(|| name.to_owned())?;
        Ok(content)
    }

    /// Reads a JSON document.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let content = self.read(name)?;
        document(&content).with_context(|| name.to_owned())
    }
}

/// Reads JSON; an error names the field.
pub fn document<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(content);
    let document = serde_path_to_error::deserialize(&mut json)?;
    json.end()?;
    Ok(document)
}

impl Index {
    fn read(file: File) -> Result<Self> {
        let length = file.metadata()?.len();
        let mut members = HashMap::new();
        let mut archive = Archive::new(file);
        for entry in archive.entries_with_seek()? {
            let entry = entry.map_err(entry::unreadable)?;
            let name = entry::path(&entry.path_bytes())?;
            let member = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (start, size) = (entry.raw_file_position(), entry.size());
                    if start.checked_add(size).is_none_or(|end| end > length) {
                        bail!("file {name:?} is cut off");
                    }
                    Member::File { start, size }
                }
                kind @ (EntryType::Symlink | EntryType::Link) => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = Path::new(std::ffi::OsStr::from_bytes(&target));
                    let base = match kind {
                        EntryType::Symlink => name.parent().unwrap_or(Path::new("")),
                        _ => Path::new(""),
                    };
                    Member::Link(lexically(&base.join(target)))
                }
                EntryType::GNUSparse => bail!("file {name:?} is sparse"),
                _ => continue,
            };
            members.insert(name, member);
        }
        let file = Arc::new(archive.into_inner());
        Ok(Self { file, members })
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut member = self.members.get(&lexically(Path::new(name)))?;
        for _ in 0..MAX_LINKS {
            match member {
                Member::File { start, size } => return Some((*start, *size)),
                Member::Link(target) => member = self.members.get(target)?,
            }
        }
        None
    }
}

/// Takes `.` and `..` out. Only for looking names up among those of an archive: nothing is opened.
fn lexically(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.iter() {
        match part.as_bytes() {
            b"/" | b"." => {}
            b".." => {
                out.pop();
            }
            _ => out.push(part),
        }
    }
    out
}

/// The archive itself, or its uncompressed content.
fn plain_file(mut file: File, scratch: &Path) -> Result<File> {
    let (compression, mut reader) = compression::decoder(file.try_clone()?)?;
    if compression != Compression::None {
        let mut plain = tempfile::tempfile_in(scratch)?;
        io::copy(&mut reader, &mut plain)?;
        file = plain;
    }
    file.rewind()?;
    Ok(file)
}

/// A part of a file, read without moving the file's offset, which all users share.
struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
