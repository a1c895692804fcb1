//! Naming an image on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};

/// Where an image is imported from: `[KIND:]PATH[:REF]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// How to read the image; recognised by content when the user does not say.
    pub kind: Option<SourceKind>,
    /// The file or directory.
    pub path: PathBuf,
    /// Which image, where the file or directory holds several.
    pub reference: Option<String>,
}

/// The formats that an image can be imported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// An App Container Image: a tar archive with a manifest and a root file system.
    Aci,
    /// An OCI image layout in a directory.
    Oci,
    /// An OCI image layout in a tar archive.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

impl SourceKind {
    const ALL: [Self; 4] = [Self::Aci, Self::Oci, Self::OciArchive, Self::DockerArchive];

    fn prefix(self) -> &'static str {
        match self {
            Self::Aci => "aci",
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

impl FromStr for ImageSource {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = match text.split_once(':') {
            Some((prefix, rest)) => {
                match SourceKind::ALL.into_iter().find(|k| k.prefix() == prefix) {
                    Some(kind) => (Some(kind), rest),
                    None => (None, text),
                }
            }
            None => (None, text),
        };
        if rest.is_empty() {
            bail!("image source {text:?}: names no file");
        }
        let (path, reference) = split_reference(rest);
        Ok(Self {
            kind,
            path: path.into(),
            reference: reference.map(str::to_owned),
        })
    }
}

/// Both paths and references may have colons in them: the shortest prefix that exists is the path.
fn split_reference(text: &str) -> (&str, Option<&str>) {
    if Path::new(text).exists() {
        return (text, None);
    }
    text.match_indices(':')
        .map(|(at, _)| (&text[..at], Some(&text[at + 1..])))
        .find(|(path, _)| !path.is_empty() && Path::new(path).exists())
        .unwrap_or((text, None))
}
