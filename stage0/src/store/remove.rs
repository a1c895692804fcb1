//! Removing images and what only they need.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use common::appc::ImageId;

use super::record::Record;
use super::{Store, TreeId, names};

impl Store {
    /// Removes an image, the trees made of it, and the blobs that no other image has. Waits for other
    /// users of the store to be done. Refuses when `in_use` says that a pod uses one of the trees.
    pub fn remove(&self, id: &ImageId, in_use: &dyn Fn(&TreeId) -> Result<bool>) -> Result<()> {
        self.layout.alone(|| {
            let manifest = self.manifest(id)?;
            let mut trees = self.rendered()?;
            trees.retain(|(_, images)| images.contains(id) || images.is_empty());
            for (tree, images) in &trees {
                if !images.is_empty() && in_use(tree)? {
                    bail!("image {} ({id}): a pod uses it", manifest.name);
                }
            }
            // The record first: without it there is no image, whatever is left of it.
            self.discard(&self.layout.image(id))?;
            for (tree, images) in trees {
                if !images.is_empty() || !in_use(&tree)? {
                    self.discard(&self.layout.tree(&tree))?;
                }
            }
            self.remove_unused_blobs()
        })
    }

    /// Removes a directory of the store, if it is there.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        let context = || format!("remove {}", path.display());
        let scratch = self.layout.scratch()?;
        // Out of sight in one step; what is left of it if we die now is unfinished business.
        match fs::rename(path, scratch.path().join("discarded")) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.with_context(context)?,
        }
        scratch.remove().with_context(context)
    }

    fn remove_unused_blobs(&self) -> Result<()> {
        let mut used = HashSet::new();
        for image in names(&self.layout.images())? {
            let record = Record::read(&self.layout.images().join(image))?;
            used.extend(
                record
                    .layers
                    .iter()
                    .map(|layer| self.layout.blob(&layer.blob)),
            );
        }
        for algorithm in names(&self.layout.blobs())? {
            let directory = self.layout.blobs().join(algorithm);
            for name in names(&directory)? {
                let blob = directory.join(name);
                if !used.contains(&blob) {
                    fs::remove_file(&blob).with_context(|| format!("remove {}", blob.display()))?;
                }
            }
        }
        Ok(())
    }
}
