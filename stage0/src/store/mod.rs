//! The image store: images by the digest of their content, and root file systems rendered from them.
//!
//! ```text
//! DIR/store/lock                    held shared by all who use the store, exclusively to remove
//! DIR/store/blobs/ALGORITHM/HEX     layers as they were imported, compressed or not
//! DIR/store/images/ID/manifest      the appc image manifest
//! DIR/store/images/ID/image.json    which blobs make up the image, and when it was imported
//! DIR/store/trees/ID/rootfs         a rendered root file system, an overlay's lower layer
//! DIR/store/trees/ID/tree.json      what it was rendered from, and its digest
//! DIR/store/tmp                     what is being made; moved to its place when it is whole
//! ```
//!
//! A process that dies leaves nothing but files below `tmp`, which the next one that has the store
//! for itself removes, and blobs of no image, which go when next an image is removed.

mod copy;
mod delete;
mod fingerprint;
mod import;
mod layout;
mod metadata;
pub mod owners;
mod progress;
mod record;
mod remove;
mod render;
mod resolve;
mod sparse;
mod tree;
mod unpack;
mod whitelist;
mod writer;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use common::appc::{ImageId, ImageManifest};

use layout::Layout;
use record::Record;

pub use tree::{Tree, TreeId};

/// An open store. While it is open, no other process removes an image or a tree: a caller keeps it
/// open from the look-up of an image until its pod directory names the tree that it uses.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
}

/// How to import an image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// `NAME[:VERSION]` to give to a converted image in place of the one that it brings.
    pub name: Option<String>,
}

/// An image that was imported.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its id.
    pub id: ImageId,
    /// What could not be carried over from a foreign image, a sentence each.
    pub warnings: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Its id.
    pub id: ImageId,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// When it was imported, in seconds since 1970.
    pub imported: u64,
    /// The size of its blobs in bytes.
    pub size: u64,
}

impl Store {
    /// Opens the store of the data directory `dir` (`--dir`), which is made where it is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        // Paths of trees are given to programs that work elsewhere.
        let dir = std::path::absolute(dir).with_context(|| format!("open {}", dir.display()))?;
        Ok(Self {
            layout: Layout::open(&dir.join("store"))?,
        })
    }

    /// All images, by name, version and id.
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        let mut images = Vec::new();
        for name in names(&self.layout.images())? {
            let id: ImageId = name.parse().with_context(|| format!("image {name}"))?;
            let directory = self.layout.image(&id);
            let record = Record::read(&directory)?;
            images.push(StoredImage {
                id,
                manifest: record::manifest(&directory)?,
                imported: record.imported,
                size: record.size(),
            });
        }
        images.sort_by(|a, b| {
            let key = |i: &StoredImage| (i.manifest.name.clone(), i.version().map(str::to_owned));
            (key(a), &a.id).cmp(&(key(b), &b.id))
        });
        Ok(images)
    }

    /// An image's manifest.
    pub fn manifest(&self, id: &ImageId) -> Result<ImageManifest> {
        let directory = self.layout.image(id);
        if !directory.exists() {
            bail!("image {id}: is not in the store");
        }
        record::manifest(&directory)
    }
}

/// The names in a directory of the store, in order.
fn names(directory: &Path) -> Result<Vec<String>> {
    let context = || format!("read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let name = entry.with_context(context)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
