//! Reading what `docker save` writes.

use anyhow::{Context, Result, bail};
use oci_spec::image::{DigestAlgorithm, ImageConfiguration};
use serde::Deserialize;

use super::convert::{self, Foreign};
use super::digest::{self, HashingReader};
use super::files::{self, Files};
use super::reference::Reference;
use super::{Converted, LayerSource};

/// An element of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Image {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// Reads the image that has the tag `wanted`, or the only one. `name` replaces the name that the archive gives.
pub(super) fn read(
    files: &Files,
    wanted: Option<&str>,
    name: Option<Reference>,
) -> Result<Converted> {
    let images: Vec<Image> = files.json("manifest.json")?;
    let image = choose(&images, wanted)?;
    let reference = name.unwrap_or_else(|| {
        // Of several tags the one that was asked for, else the first.
        let tag = image.tags().iter().find(|t| Some(t.as_str()) == wanted);
        match tag.or(image.tags().first()) {
            Some(tag) => Reference::parse(tag),
            None => Reference::of_file(&files.path),
        }
    });
    convert(files, image, &reference)
}

fn choose<'a>(images: &'a [Image], wanted: Option<&str>) -> Result<&'a Image> {
    let names = || {
        let names = images.iter().map(|image| match image.tags() {
            [] => image.config.clone(),
            tags => tags.join(", "),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(wanted) = wanted {
        let found = images
            .iter()
            .find(|i| i.tags().iter().any(|tag| tag == wanted));
        return found.with_context(|| format!("has no image {wanted:?}; it has: {}", names()));
    }
    match images {
        [] => bail!("manifest.json: has no image"),
        [image] => Ok(image),
        _ => bail!("holds several images: {}; name one as PATH:REF", names()),
    }
}

fn convert(files: &Files, image: &Image, reference: &Reference) -> Result<Converted> {
    let content = files.read(&image.config)?;
    let hashed = HashingReader::new(content.as_slice(), &DigestAlgorithm::Sha256)?;
    let (config_digest, _) = hashed.finish()?;
    if let Some(expected) = named_digest(&image.config) {
        digest::check(&config_digest, &expected).with_context(|| image.config.clone())?;
    }
    let config: ImageConfiguration =
        files::document(&content).with_context(|| image.config.clone())?;
    let diffs = config.rootfs().diff_ids();
    if diffs.len() != image.layers.len() {
        let (layers, diffs) = (image.layers.len(), diffs.len());
        bail!(
            "manifest.json: Layers: {layers} of them, but the config has {diffs} rootfs.diff_ids"
        );
    }
    let mut layers = Vec::new();
    for (at, (layer, diff)) in image.layers.iter().zip(diffs).enumerate() {
        let diff = digest::parse(diff)
            .with_context(|| format!("{}: rootfs.diff_ids[{at}]", image.config))?;
        layers.push(LayerSource {
            file: layer.clone(),
            digest: named_digest(layer),
            size: None,
            diff,
        });
    }
    let (manifest, warnings) = convert::image_manifest(&Foreign {
        config: &config,
        config_digest: &config_digest,
        manifest_digest: None,
        reference,
        annotations: None,
    })?;
    Ok(Converted {
        manifest,
        layers,
        warnings,
    })
}

/// The digest that a file's own name promises: `HEX.json` of older dockers, `blobs/sha256/HEX` of newer.
fn named_digest(name: &str) -> Option<oci_spec::image::Digest> {
    let hex = match name.strip_prefix("blobs/sha256/") {
        Some(hex) => hex,
        None => name.strip_suffix(".json")?,
    };
    digest::parse(&format!("sha256:{hex}")).ok()
}
