//! Image formats: reading App Container Images, OCI layouts and docker archives, and turning what
//! they say into an appc image manifest.

pub mod compression;
pub mod convert;
pub mod digest;
mod docker;
pub mod entry;
mod exposed;
pub mod files;
mod oci;
pub mod platform;
pub mod reference;
pub mod source;

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail};
use common::appc::ImageManifest;
use oci_spec::image::Digest;
use tar::{Archive, EntryType};

use entry::AciEntry;
use files::Files;
use reference::Reference;

pub use source::{ImageSource, SourceKind};

/// An image that is ready to be taken into a store.
#[derive(Debug)]
pub enum Incoming {
    /// An App Container Image: a file that is manifest and layer in one.
    Aci,
    /// An image of another format, and the files that have its layers.
    Converted(Box<Converted>, Files),
}

/// What a foreign image becomes.
#[derive(Debug)]
pub struct Converted {
    /// The appc manifest.
    pub manifest: ImageManifest,
    /// The layers, the lowest first.
    pub layers: Vec<LayerSource>,
    /// What could not be carried over, a sentence each.
    pub warnings: Vec<String>,
}

/// A layer of a foreign image.
#[derive(Debug)]
pub struct LayerSource {
    /// The file that has it.
    pub file: String,
    /// The digest that the file must have, if it is known.
    pub digest: Option<Digest>,
    /// The size that the file must have, if it is known.
    pub size: Option<u64>,
    /// The digest that the uncompressed layer must have.
    pub diff: Digest,
}

/// Opens an image and reads everything but its layers. `name` replaces the name of a foreign image; `scratch` is
/// a directory for temporary files.
pub fn open(source: &ImageSource, name: Option<&str>, scratch: &Path) -> Result<Incoming> {
    let path = &source.path;
    let name = name.map(Reference::parse);
    let wanted = source.reference.as_deref();
    let kind = match source.kind {
        Some(kind) => kind,
        None => recognise(path)?,
    };
    match kind {
        SourceKind::Aci if wanted.is_some() => bail!("an ACI holds one image only"),
        SourceKind::Aci if name.is_some() => bail!("an ACI has a name of its own"),
        SourceKind::Aci => Ok(Incoming::Aci),
        SourceKind::Oci => {
            let files = Files::directory(path);
            Ok(Incoming::Converted(
                Box::new(oci::read(&files, wanted, name)?),
                files,
            ))
        }
        SourceKind::OciArchive => {
            let files = Files::archive(path, scratch)?;
            Ok(Incoming::Converted(
                Box::new(oci::read(&files, wanted, name)?),
                files,
            ))
        }
        SourceKind::DockerArchive => {
            let files = Files::archive(path, scratch)?;
            // New dockers write an OCI layout too, which has more digests to check.
            let converted = if files.contains("oci-layout") && source.kind.is_none() {
                oci::read(&files, wanted, name)?
            } else if files.contains("manifest.json") {
                docker::read(&files, wanted, name)?
            } else {
                bail!("is neither an ACI nor an OCI nor a docker archive")
            };
            Ok(Incoming::Converted(Box::new(converted), files))
        }
    }
}

/// Tells the kind of an image by its content. The two kinds of archive are told apart once all of it
/// has been read.
fn recognise(path: &Path) -> Result<SourceKind> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        if !path.join("oci-layout").is_file() {
            bail!("is no OCI layout: it has no file oci-layout");
        }
        return Ok(SourceKind::Oci);
    }
    let (_, reader) = compression::decoder(file)?;
    for entry in Archive::new(reader).entries()? {
        let entry = entry.map_err(entry::unreadable)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        match entry::aci_entry(&entry.path_bytes()) {
            Ok(AciEntry::Top) => {}
            Ok(AciEntry::Manifest | AciEntry::Rootfs(_)) => return Ok(SourceKind::Aci),
            Err(_) => return Ok(SourceKind::DockerArchive),
        }
    }
    bail!("is no image: the archive is empty")
}
