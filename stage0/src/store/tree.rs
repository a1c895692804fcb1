//! Names of rendered trees.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use common::appc::ImageId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
