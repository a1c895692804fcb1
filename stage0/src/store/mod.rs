//! The image store: images by the digest of their content, and root file systems rendered from them.
//!
//! ```text
//! DIR/store/lock                    held shared by every process that uses the store, exclusive to remove
//! DIR/store/blobs/ALGORITHM/HEX     layers as they were imported, compressed or not
//! DIR/store/images/ID/manifest      the appc image manifest
//! DIR/store/images/ID/image.json    which blobs make up the image, and when it was imported
//! DIR/store/trees/ID/rootfs         a rendered root file system, used as an overlay's lower layer
//! DIR/store/trees/ID/tree.json      which images it was rendered from
//! DIR/store/tmp                     what is being made; moved to its place when it is whole
//! ```
//!
//! A process that dies leaves nothing but files below `tmp`, which the next one that has the store
//! for itself removes.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use common::appc::{ImageId, ImageManifest};

use crate::image::ImageSource;

/// An open store. While it is open, no other process removes an image or a tree: a caller keeps it
/// open from the look-up of an image until its pod directory names the tree that it uses.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
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

/// Which tree: changes with any of the images that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeId(String);

/// A rendered root file system in the store.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Its id, for `treeStoreID` and `overlay/ID`.
    pub id: TreeId,
    /// The directory with the files, absolute: an overlay's lower layer, never to be written to.
    pub rootfs: PathBuf,
}

/// An image as `list` shows it.
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
        Ok(Self {
            root: dir.join("store"),
        })
    }

    /// Imports an image; importing one again is no error and changes nothing.
    pub fn import(&self, source: &ImageSource, options: &ImportOptions) -> Result<Imported> {
        bail!("import {source:?} {options:?}: not supported")
    }

    /// Finds an image by its id, a unique prefix of its id (`sha512-…`), `NAME` or `NAME:VERSION`.
    /// The name may lack leading parts: `redis` finds `docker.io/library/redis`. Of images with the same name and
    /// labels the one imported last is meant; otherwise a choice is an error that names the candidates.
    pub fn resolve(&self, image: &str) -> Result<ImageId> {
        bail!("no image {image}")
    }

    /// All images, by name, version and id.
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        Ok(Vec::new())
    }

    /// An image's manifest.
    pub fn manifest(&self, id: &ImageId) -> Result<ImageManifest> {
        bail!("no image {id}")
    }

    /// Removes an image and the trees made of it. Waits for other users of the store to be done. Refuses when
    /// `in_use` says that a pod uses one of the trees.
    pub fn remove(&self, id: &ImageId, in_use: &dyn Fn(&TreeId) -> Result<bool>) -> Result<()> {
        let _ = in_use;
        bail!("no image {id}")
    }

    /// Renders an image into the store for use below an overlay, once: a tree that is there already is returned.
    pub fn render(&self, id: &ImageId) -> Result<Tree> {
        bail!("no image {id}")
    }

    /// Renders an image into the directory `dest`, which must be missing or empty; its owner, mode and
    /// times become those of the image's root.
    pub fn render_to(&self, id: &ImageId, dest: &Path) -> Result<()> {
        bail!("render {id} in {}: not supported", dest.display())
    }

    /// A tree that was rendered before, by the id that a pod directory names.
    pub fn tree(&self, id: &TreeId) -> Result<Tree> {
        let rootfs = self.root.join("trees").join(&id.0).join("rootfs");
        Ok(Tree {
            id: id.clone(),
            rootfs,
        })
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TreeId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid = !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid {
            bail!("tree id {text:?}: must be lower-case letters, digits and '-'");
        }
        Ok(Self(text.to_owned()))
    }
}
