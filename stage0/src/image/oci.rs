//! Reading OCI image layouts.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context, Result, bail};
use oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};

use super::convert::{self, Foreign};
use super::digest::{self, HashingReader};
use super::files::{self, Files};
use super::platform::Platform;
use super::reference::Reference;
use super::{Converted, LayerSource};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Marks documents about an image that are listed beside it.
const DOCKER_REFERENCE: &str = "vnd.docker.reference.type";
/// How deep indexes may be nested.
const MAX_DEPTH: u32 = 8;

/// Reads the image that `wanted` names, or the only one; of several platforms, this machine's. `name` replaces the
/// name that the layout gives.
pub(super) fn read(
    files: &Files,
    wanted: Option<&str>,
    name: Option<Reference>,
) -> Result<Converted> {
    let layout: OciLayout = files.json("oci-layout")?;
    if !layout.image_layout_version().starts_with("1.") {
        let version = layout.image_layout_version();
        bail!("oci-layout: imageLayoutVersion: {version:?}: must be 1.x");
    }
    let index: ImageIndex = files.json("index.json")?;
    let chosen = choose(files, &index, wanted)?;
    let reference = name.unwrap_or_else(|| match &chosen.name {
        Some(name) => Reference::in_layout(name, &files.path),
        None => Reference::of_file(&files.path),
    });
    image(files, &chosen.descriptor, &reference)
}

/// A manifest in the layout.
#[derive(Debug)]
struct Candidate {
    descriptor: Descriptor,
    /// Its full name or its tag.
    name: Option<String>,
    /// By which it can be asked for.
    names: Vec<String>,
}

fn choose(files: &Files, index: &ImageIndex, wanted: Option<&str>) -> Result<Candidate> {
    let mut candidates = Vec::new();
    collect(files, index, &[], MAX_DEPTH, &mut candidates)?;
    let names = |candidates: &[Candidate]| {
        let mut names: Vec<_> = candidates.iter().filter_map(|c| c.name.clone()).collect();
        names.dedup();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        let all = names(&candidates);
        candidates.retain(|c| c.names.iter().any(|name| name == wanted));
        if candidates.is_empty() {
            bail!("has no image {wanted:?}; it has: {all}");
        }
    }
    let host = Platform::host();
    let mut others = Vec::new();
    let mut fitting: Vec<Candidate> = Vec::new();
    let alone = candidates.len() == 1;
    for candidate in candidates {
        let platform = match candidate.descriptor.platform() {
            Some(platform) => Platform::of(platform),
            // Nothing to choose from; and an image for another machine may be kept here for it.
            None if alone => return Ok(candidate),
            None => platform_of(files, &candidate.descriptor)?,
        };
        if !platform.runs_on(&host) {
            others.push(platform.to_string());
        } else if fitting
            .iter()
            .all(|f| f.descriptor.digest() != candidate.descriptor.digest())
        {
            fitting.push(candidate);
        }
    }
    if fitting.len() > 1 && fitting.iter().all(|f| f.names == fitting[0].names) {
        // Builds for newer processors of one kind: the plain one runs everywhere.
        let plain = |c: &Candidate| {
            c.descriptor
                .platform()
                .as_ref()
                .is_none_or(|p| p.variant().is_none())
        };
        if let Some(at) = fitting.iter().position(plain) {
            return Ok(fitting.swap_remove(at));
        }
    }
    match (fitting.len(), fitting.pop()) {
        (1, Some(candidate)) => Ok(candidate),
        (_, None) if others.is_empty() => bail!("index.json: manifests: has no image"),
        (_, None) => bail!("has no image for {host}; it has: {}", others.join(", ")),
        (_, Some(last)) => {
            fitting.push(last);
            bail!(
                "holds several images: {}; name one as PATH:REF",
                names(&fitting)
            )
        }
    }
}

/// Lists the manifests of an index and of those in it.
fn collect(
    files: &Files,
    index: &ImageIndex,
    outer: &[String],
    depth: u32,
    found: &mut Vec<Candidate>,
) -> Result<()> {
    if depth == 0 {
        bail!("index.json: manifests: indexes are nested more than {MAX_DEPTH} deep");
    }
    for descriptor in index.manifests() {
        let annotation = |name: &str| descriptor.annotations().as_ref()?.get(name).cloned();
        if annotation(DOCKER_REFERENCE).is_some() {
            continue;
        }
        let mut names: Vec<_> = [CONTAINERD_NAME, REF_NAME]
            .into_iter()
            .filter_map(annotation)
            .collect();
        if names.is_empty() {
            names = outer.to_vec();
        }
        if is_index(descriptor.media_type()) {
            let inner: ImageIndex = blob_document(files, descriptor)?;
            collect(files, &inner, &names, depth - 1, found)?;
        } else if is_manifest(descriptor.media_type()) {
            found.push(Candidate {
                descriptor: descriptor.clone(),
                name: names.first().cloned(),
                names,
            });
        }
    }
    Ok(())
}

fn is_index(kind: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    *kind == MediaType::ImageIndex || kind.as_ref() == docker
}

fn is_manifest(kind: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    *kind == MediaType::ImageManifest || kind.as_ref() == docker
}

fn is_config(kind: &MediaType) -> bool {
    let docker = "application/vnd.docker.container.image.v1+json";
    *kind == MediaType::ImageConfig || kind.as_ref() == docker
}

fn is_layer(kind: &MediaType) -> bool {
    // How it is compressed shows in the content; here only encrypted layers and the like are told apart.
    let kind = kind.as_ref();
    let kind = kind
        .strip_suffix("+gzip")
        .or(kind.strip_suffix("+zstd"))
        .unwrap_or(kind);
    matches!(
        kind,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    )
}

/// The platform that a manifest's configuration gives.
fn platform_of(files: &Files, descriptor: &Descriptor) -> Result<Platform> {
    let manifest: ImageManifest = blob_document(files, descriptor)?;
    let config: ImageConfiguration = blob_document(files, manifest.config())?;
    Ok(Platform {
        os: config.os().clone(),
        arch: config.architecture().clone(),
        variant: config.variant().clone(),
    })
}

fn image(files: &Files, descriptor: &Descriptor, reference: &Reference) -> Result<Converted> {
    let manifest: ImageManifest = blob_document(files, descriptor)?;
    let in_manifest = || blob_name(descriptor.digest());
    if !is_config(manifest.config().media_type()) {
        let kind = manifest.config().media_type();
        bail!(
            "{}: config.mediaType: {:?}: is no container image",
            in_manifest(),
            kind.as_ref()
        );
    }
    let config: ImageConfiguration = blob_document(files, manifest.config())?;
    let diffs = config.rootfs().diff_ids();
    if diffs.len() != manifest.layers().len() {
        let (layers, diffs) = (manifest.layers().len(), diffs.len());
        bail!(
            "{}: layers: {layers} of them, but the config has {diffs} rootfs.diff_ids",
            in_manifest()
        );
    }
    let mut layers = Vec::new();
    for (at, (layer, diff)) in manifest.layers().iter().zip(diffs).enumerate() {
        if !is_layer(layer.media_type()) {
            let kind = layer.media_type().as_ref();
            bail!(
                "{}: layers[{at}].mediaType: {kind:?}: is no layer that is supported",
                in_manifest()
            );
        }
        layers.push(LayerSource {
            file: blob_name(layer.digest()),
            digest: Some(layer.digest().clone()),
            size: Some(layer.size()),
            diff: digest::parse(diff).with_context(|| format!("config: rootfs.diff_ids[{at}]"))?,
        });
    }
    let annotations: Option<&HashMap<_, _>> = manifest.annotations().as_ref();
    let (manifest, warnings) = convert::image_manifest(&Foreign {
        config: &config,
        config_digest: manifest.config().digest(),
        manifest_digest: Some(descriptor.digest()),
        reference,
        annotations,
    })?;
    Ok(Converted {
        manifest,
        layers,
        warnings,
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// Reads a document by its descriptor; its size and digest must be those of the descriptor.
fn blob_document<T: serde::de::DeserializeOwned>(
    files: &Files,
    descriptor: &Descriptor,
) -> Result<T> {
    digest::parse(descriptor.digest().as_ref())?;
    let name = blob_name(descriptor.digest());
    let content = files.read(&name)?;
    let read = || -> Result<T> {
        if content.len() as u64 != descriptor.size() {
            bail!("size is {}, expected {}", content.len(), descriptor.size());
        }
        let mut reader = HashingReader::new(content.as_slice(), descriptor.digest().algorithm())?;
        reader.read_to_end(&mut Vec::new())?;
        digest::check(&reader.finish()?.0, descriptor.digest())?;
        files::document(&content)
    };
    read().with_context(|| name.clone())
}
