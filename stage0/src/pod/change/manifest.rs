//! The manifest of a pod that others change too.

use std::borrow::Cow;
use std::fs;

use anyhow::{Context, Result};
use common::appc::PodManifest;
use common::pod::PodDir;

/// A manifest, and the text that it was read from. Commands look at it several times, and that of a pod with a hundred apps
/// is long: it is parsed again only when the text is another one.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) content: PodManifest,
    pub(super) text: Vec<u8>,
}

impl Manifest {
    /// Reads the manifest of the pod in `dir`.
    pub(super) fn read(dir: &PodDir) -> Result<Self> {
        parse(dir, read(dir)?)
    }

    /// The manifest as it is now.
    pub(super) fn now(&self, dir: &PodDir) -> Result<Cow<'_, Self>> {
        let text = read(dir)?;
        if text == self.text {
            return Ok(Cow::Borrowed(self));
        }
        parse(dir, text).map(Cow::Owned)
    }
}

impl From<PodManifest> for Manifest {
    fn from(content: PodManifest) -> Self {
        let text = content.to_json();
        Self { content, text }
    }
}

fn read(dir: &PodDir) -> Result<Vec<u8>> {
    let file = dir.manifest();
    fs::read(&file).with_context(|| format!("read {}", file.display()))
}

fn parse(dir: &PodDir, text: Vec<u8>) -> Result<Manifest> {
    let content =
        PodManifest::parse(&text).with_context(|| format!("read {}", dir.manifest().display()))?;
    Ok(Manifest { content, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_another_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let dir = PodDir::new(folder.path());
        let mut pod = PodManifest::default();
        fs::write(dir.manifest(), pod.to_json()).unwrap();
        let first = Manifest::read(&dir).unwrap();
        assert!(matches!(first.now(&dir).unwrap(), Cow::Borrowed(_)));
        pod.user_labels.insert("a".into(), "b".into());
        fs::write(dir.manifest(), pod.to_json()).unwrap();
        assert_eq!(first.now(&dir).unwrap().content, pod);
        fs::write(dir.manifest(), "{").unwrap();
        first.now(&dir).unwrap_err();
        fs::remove_file(dir.manifest()).unwrap();
        first.now(&dir).unwrap_err();
    }
}
