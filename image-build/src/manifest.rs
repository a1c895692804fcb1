//! The image manifest, from the template in the static tree.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The template's name at the top of the static tree.
pub(crate) const TEMPLATE: &str = "manifest.in";

/// The annotations that name entrypoints begin so.
const ENTRYPOINT_PREFIX: &str = "coreos.com/rkt/stage1/";

/// The one annotation with that prefix that is no path.
const INTERFACE_VERSION: &str = "coreos.com/rkt/stage1/interface-version";

/// The image manifest.
#[derive(Debug)]
pub(crate) struct Manifest(Value);

/// Fills in the template: `@VERSION@` is this project's version, `@ARCH@` the architecture as appc spells it.
pub(crate) fn from_template(path: &Path) -> Result<Manifest> {
    let template = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&template).with_context(|| format!("read {}", path.display()))
}

fn parse(template: &str) -> Result<Manifest> {
    let text = template
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCH@", "amd64");
    Ok(Manifest(serde_json::from_str(&text)?))
}

impl Manifest {
    /// The paths of the entrypoints that the manifest promises.
    pub(crate) fn entrypoints(&self) -> Vec<&str> {
        let annotations = self.0["annotations"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        annotations
            .iter()
            .filter_map(|annotation| {
                Some((annotation["name"].as_str()?, annotation["value"].as_str()?))
            })
            .filter(|(name, _)| name.starts_with(ENTRYPOINT_PREFIX) && *name != INTERFACE_VERSION)
            .map(|(_, value)| value)
            .collect()
    }

    /// The bytes of the file `manifest` in the image.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&self.0).context("write the image manifest")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_entrypoints() {
        let manifest = parse(
            r#"{"labels": [{"name": "version", "value": "@VERSION@"}], "annotations": [
                {"name": "coreos.com/rkt/stage1/run", "value": "/init"},
                {"name": "coreos.com/rkt/stage1/interface-version", "value": "6"},
                {"name": "homepage", "value": "/x"}]}"#,
        )
        .unwrap();
        assert_eq!(manifest.entrypoints(), ["/init"]);
        assert_eq!(manifest.0["labels"][0]["value"], env!("CARGO_PKG_VERSION"));
    }
}
