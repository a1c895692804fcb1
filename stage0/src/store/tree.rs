//! Rendered trees: their names, and whether what is on the disk is what was rendered.
//!
//! A tree is not written through to the disk when it is made: on a busy machine that can take a minute. So one
//! from before the last boot, which may have been a power failure's, is compared with its digest once before
//! it is used, and made again if it is damaged.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use common::appc::ImageId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Store, fingerprint, names};
use crate::whole;

/// The directory with the files, in that of the tree.
pub(super) const ROOTFS: &str = "rootfs";
const DESCRIPTION: &str = "tree.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The way in which trees are rendered: a change to it makes new trees of the same images.
const RENDERING: &str = "1";

/// Which tree: changes with any of the images that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TreeId(String);

/// A rendered root file system in the store.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Its id, for `treeStoreID` and `overlay/ID`.
    pub id: TreeId,
    /// The directory with the files, absolute: an overlay's lower layer, never to be written to.
    pub rootfs: PathBuf,
}

/// What is written beside a tree.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// What it was rendered from, the image itself first.
    images: Vec<ImageId>,
    /// The digest of all of it.
    digest: String,
    /// In which boot of the machine it was made, if it has not been seen on the disk since.
    #[serde(skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<String>,
}

impl Description {
    fn read(tree: &Path) -> Result<Self> {
        let path = tree.join(DESCRIPTION);
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))
    }

    fn write(&self, tree: &Path) -> Result<()> {
        whole::write(&tree.join(DESCRIPTION), &serde_json::to_vec_pretty(self)?)
    }
}

/// Describes a tree that has just been made.
pub(super) fn describe(tree: &Path, images: Vec<ImageId>) -> Result<()> {
    let description = Description {
        images,
        digest: fingerprint::of(&tree.join(ROOTFS))?,
        unconfirmed: Some(boot()?),
    };
    description.write(tree)
}

fn boot() -> Result<String> {
    let id = fs::read_to_string(BOOT_ID).with_context(|| format!("read {BOOT_ID}"))?;
    Ok(id.trim_end().to_owned())
}

impl Store {
    /// A tree that was rendered before, by the id that a pod directory names.
    pub fn tree(&self, id: &TreeId) -> Result<Tree> {
        let directory = self.layout.tree(id);
        if !directory.exists() {
            bail!("tree {id}: is not in the store");
        }
        if self.is_sound(id)? {
            let rootfs = directory.join(ROOTFS);
            return Ok(Tree {
                id: id.clone(),
                rootfs,
            });
        }
        let images = Description::read(&directory)?.images;
        let image = images
            .first()
            .with_context(|| format!("tree {id}: is damaged"))?;
        let tree = self
            .render(image)
            .with_context(|| format!("tree {id}: is damaged"))?;
        if tree.id != *id {
            bail!("tree {id}: is damaged, and its images have changed since");
        }
        Ok(tree)
    }

    /// Whether the tree is there and undamaged.
    pub(super) fn is_sound(&self, id: &TreeId) -> Result<bool> {
        let directory = self.layout.tree(id);
        if !directory.exists() {
            return Ok(false);
        }
        // A description that cannot be read is damaged, too.
        let Ok(mut description) = Description::read(&directory) else {
            return Ok(false);
        };
        let boot = boot()?;
        if description
            .unconfirmed
            .as_ref()
            .is_some_and(|made| *made != boot)
        {
            match fingerprint::of(&directory.join(ROOTFS)) {
                Ok(digest) if digest == description.digest => {}
                _ => return Ok(false),
            }
            description.unconfirmed = None;
            description.write(&directory)?;
        }
        Ok(true)
    }

    /// The trees in the store, each with the images that it was rendered from: none for one whose
    /// description is damaged.
    pub(super) fn rendered(&self) -> Result<Vec<(TreeId, Vec<ImageId>)>> {
        let mut trees = Vec::new();
        for name in names(&self.layout.trees())? {
            let id: TreeId = name.parse()?;
            let description = Description::read(&self.layout.tree(&id));
            trees.push((id, description.map(|d| d.images).unwrap_or_default()));
        }
        Ok(trees)
    }
}

impl TreeId {
    /// The id of the tree that is made of `images`, each with its depth among the dependencies.
    pub(super) fn of(images: &[(usize, ImageId)]) -> Self {
        let mut hash = Sha256::new();
        hash.update(RENDERING);
        for (depth, image) in images {
            hash.update(format!("\n{depth} {image}"));
        }
        // Shorter than an image's id: it is a part of paths that go into mount options.
        Self(format!("tree-{:x}", hash.finalize()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TreeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("tree-").unwrap_or_default();
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 64 || !digits.bytes().all(hex) {
            bail!("tree id {text:?}: must be tree- and 64 hexadecimal digits");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TreeId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_trees_apart() {
        let image = |n: u8| {
            format!("sha512-{}", n.to_string().repeat(64))
                .parse()
                .unwrap()
        };
        let tree = |images: &[(usize, u8)]| {
            let images: Vec<_> = images
                .iter()
                .map(|(depth, n)| (*depth, image(*n)))
                .collect();
            TreeId::of(&images)
        };
        let ids = [
            tree(&[(0, 1)]),
            tree(&[(0, 2)]),
            tree(&[(0, 1), (1, 2)]),
            tree(&[(0, 1), (1, 2), (1, 3)]),
            tree(&[(0, 1), (1, 2), (2, 3)]),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(id.as_str().parse::<TreeId>().unwrap(), *id);
            assert!(!ids[at + 1..].contains(id));
        }
        assert_eq!(tree(&[(0, 1)]), ids[0]);
        assert!("tree-../../x".parse::<TreeId>().is_err());
    }
}
