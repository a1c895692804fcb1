//! Taking images into the store.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use common::appc::{ImageId, ImageManifest};
use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha512};

use super::layout::{self, Scratch};
use super::progress::Progress;
use super::record::{Layer, Record};
use super::unpack::{self, Contents, Format};
use super::{ImportOptions, Imported, Store};
use crate::image::digest::{self, HashingReader};
use crate::image::files::Files;
use crate::image::{self, Converted, ImageSource, Incoming, LayerSource, compression};

impl Store {
    /// Imports an image; importing one again only makes it the newest of its name. On failure the store is
    /// as it was.
    pub fn import(&self, source: &ImageSource, options: &ImportOptions) -> Result<Imported> {
        let import = || -> Result<Imported> {
            let scratch = self.layout.scratch()?;
            match image::open(source, options.name.as_deref(), scratch.path())? {
                Incoming::Aci => Ok(Imported {
                    id: self.import_aci(&source.path, scratch)?,
                    warnings: Vec::new(),
                }),
                Incoming::Converted(converted, files) => Ok(Imported {
                    id: self.import_converted(&converted, &files, scratch)?,
                    warnings: converted.warnings,
                }),
            }
        };
        import().with_context(|| format!("import {}", source.path.display()))
    }

    fn import_aci(&self, path: &Path, scratch: Scratch) -> Result<ImageId> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let blob = self.stage(file, size, &Expected::default(), &scratch)?;
        // The id of an ACI is by its specification the digest of the uncompressed archive.
        let (contents, diff) = blob.scan(Format::Aci, &DigestAlgorithm::Sha512)?;
        let manifest = contents.manifest.context("has no manifest")?;
        ImageManifest::parse(&manifest).context("manifest")?;
        let id = image_id(diff.digest())?;
        let layer = blob.layer(diff, false);
        self.commit(&id, Format::Aci, vec![layer], &manifest, scratch)?;
        Ok(id)
    }

    fn import_converted(
        &self,
        converted: &Converted,
        files: &Files,
        scratch: Scratch,
    ) -> Result<ImageId> {
        let mut layers = Vec::new();
        for source in &converted.layers {
            let layer = self
                .stage_layer(source, files, &scratch)
                .with_context(|| source.file.clone())?;
            layers.push(layer);
        }
        let manifest = converted.manifest.to_json();
        let mut hash = Sha512::new();
        hash.update(&manifest);
        for layer in &layers {
            hash.update(format!("{}\n", layer.diff));
        }
        let id = image_id(&format!("{:x}", hash.finalize()))?;
        self.commit(&id, Format::Layer, layers, &manifest, scratch)?;
        Ok(id)
    }

    fn stage_layer(&self, source: &LayerSource, files: &Files, scratch: &Scratch) -> Result<Layer> {
        let (reader, size) = files.open(&source.file)?;
        let expected = Expected {
            digest: source.digest.as_ref(),
            size: source.size,
        };
        let blob = self.stage(reader, size, &expected, scratch)?;
        let (contents, diff) = blob.scan(Format::Layer, source.diff.algorithm())?;
        digest::check(&diff, &source.diff).context("uncompressed")?;
        Ok(blob.layer(diff, contents.whiteouts))
    }

    /// Copies a blob to where it waits for the image to be complete.
    fn stage(
        &self,
        reader: impl Read,
        size: u64,
        expected: &Expected,
        scratch: &Scratch,
    ) -> Result<Blob> {
        if let Some(expected) = expected.size.filter(|expected| *expected != size) {
            bail!("size is {size}, expected {expected}");
        }
        let algorithm = match expected.digest {
            Some(digest) => digest.algorithm().clone(),
            None => DigestAlgorithm::Sha256,
        };
        let mut file = tempfile::Builder::new()
            .prefix("blob-")
            .tempfile_in(scratch.path())?;
        let progress = Progress::bytes("copying", size);
        let mut hashed = HashingReader::new(progress.wrap(reader), &algorithm)?;
        io::copy(&mut hashed, &mut file)?;
        file.as_file().sync_all()?;
        let (digest, size) = hashed.finish()?;
        if let Some(expected) = expected.digest {
            digest::check(&digest, expected)?;
        }
        let staged = scratch.path().join(digest.digest());
        let mut file = file.persist(staged)?;
        file.rewind()?;
        Ok(Blob { digest, size, file })
    }

    /// Moves blobs and record to their places. The record comes last: only with it there is an image.
    fn commit(
        &self,
        id: &ImageId,
        format: Format,
        layers: Vec<Layer>,
        manifest: &[u8],
        scratch: Scratch,
    ) -> Result<()> {
        for layer in &layers {
            let target = self.layout.blob(&layer.blob);
            let staged = scratch.path().join(layer.blob.digest());
            // The same layer may be there twice, and is moved once.
            if !staged.exists() {
                continue;
            }
            let context = || format!("move {} to {}", staged.display(), target.display());
            target
                .parent()
                .map(layout::make_directory)
                .transpose()
                .with_context(context)?;
            fs::rename(&staged, &target).with_context(context)?;
        }
        let record = Record {
            imported: now(),
            format,
            layers,
        };
        let complete = self.layout.scratch()?;
        record.write(complete.path(), manifest)?;
        let target = self.layout.image(id);
        if target.exists() {
            // All but the time is the same.
            return Record::replace(complete.path(), &target);
        }
        complete.publish(&target)
    }
}

/// What is known of a blob before it is read.
#[derive(Debug, Default)]
struct Expected<'a> {
    digest: Option<&'a Digest>,
    size: Option<u64>,
}

/// A blob that is not yet in its place.
struct Blob {
    digest: Digest,
    size: u64,
    file: File,
}

impl Blob {
    /// Reads through the blob, and gives the digest of its uncompressed content.
    fn scan(&self, format: Format, algorithm: &DigestAlgorithm) -> Result<(Contents, Digest)> {
        let progress = Progress::bytes("checking", self.size);
        let reader = progress.wrap(BufReader::new(&self.file));
        let (_, reader) = compression::decoder(reader)?;
        let mut hashed = HashingReader::new(reader, algorithm)?;
        let contents = unpack::scan(&mut hashed, format)?;
        Ok((contents, hashed.finish()?.0))
    }

    fn layer(self, diff: Digest, whiteouts: bool) -> Layer {
        Layer {
            blob: self.digest,
            size: self.size,
            diff,
            whiteouts,
        }
    }
}

fn image_id(digits: &str) -> Result<ImageId> {
    let id = format!("sha512-{digits}");
    id.parse().with_context(|| format!("image id {id:?}"))
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map(|now| now.as_secs()).unwrap_or_default()
}
