//! What the store keeps about an image.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use common::appc::ImageManifest;
use oci_spec::image::Digest;
use serde::{Deserialize, Serialize};

use super::unpack::Format;

const RECORD: &str = "image.json";
const MANIFEST: &str = "manifest";

/// An image's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// When it was imported, in seconds since 1970.
    pub imported: u64,
    /// What the entries of its layers mean.
    pub format: Format,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// The digest of the blob, which may be compressed.
    pub blob: Digest,
    /// The size of the blob.
    pub size: u64,
    /// The digest of the uncompressed archive.
    pub diff: Digest,
    /// Whether it hides files of lower layers.
    pub whiteouts: bool,
}

impl Record {
    /// Writes record and manifest into the image's directory.
    pub(super) fn write(&self, directory: &Path, manifest: &[u8]) -> Result<()> {
        let record = serde_json::to_vec_pretty(self)?;
        for (name, content) in [(RECORD, &record[..]), (MANIFEST, manifest)] {
            let path = directory.join(name);
            let write = || {
                let mut file = File::create(&path)?;
                file.write_all(content)?;
                file.sync_all()
            };
            write().with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads the record from the image's directory.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))
    }

    /// Puts the record in `made` in the place of the one of an image that is there already.
    pub(super) fn replace(made: &Path, image: &Path) -> Result<()> {
        let target = image.join(RECORD);
        fs::rename(made.join(RECORD), &target)
            .with_context(|| format!("replace {}", target.display()))
    }

    /// The size of all blobs.
    pub(super) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Reads the manifest from the image's directory.
pub(super) fn manifest(directory: &Path) -> Result<ImageManifest> {
    let path = directory.join(MANIFEST);
    let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    ImageManifest::parse(&content).with_context(|| format!("read {}", path.display()))
}
