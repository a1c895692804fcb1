//! Names of images elsewhere, and how they become appc names.

use std::path::Path;

use anyhow::{Context, Result};
use common::appc::{AcIdentifier, AcName};

/// The name of an image as registries and docker know it: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it was written.
    pub original: String,
    /// The registry, if one is named.
    pub registry: Option<String>,
    /// The path in the registry.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
}

impl Reference {
    /// Takes a name apart. Any text is one: what is no valid appc name is replaced later.
    pub fn parse(text: &str) -> Self {
        let (name, _digest) = text.split_once('@').unwrap_or((text, ""));
        // A colon before a slash belongs to the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host.to_owned()), rest)
            }
            _ => (None, name),
        };
        Self {
            original: text.to_owned(),
            registry,
            repository: repository.to_owned(),
            tag,
        }
    }

    /// The name of an OCI layout's image: its `org.opencontainers.image.ref.name` is often no more than a tag, and
    /// then the file or directory has the name.
    pub fn in_layout(text: &str, path: &Path) -> Self {
        if text.contains(['/', ':']) {
            return Self::parse(text);
        }
        Self {
            tag: Some(text.to_owned()),
            original: text.to_owned(),
            ..Self::of_file(path)
        }
    }

    /// The name of an image that has none: that of the file or directory without its extensions.
    pub fn of_file(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut name: &str = &name;
        for extension in [
            ".gz", ".zst", ".xz", ".bz2", ".tgz", ".tar", ".oci", ".docker",
        ] {
            name = name.strip_suffix(extension).unwrap_or(name);
        }
        Self {
            original: name.to_owned(),
            registry: None,
            repository: name.to_owned(),
            tag: None,
        }
    }

    /// The name as an appc identifier, in which characters that it may not have become `-`.
    pub fn image_name(&self) -> Result<AcIdentifier> {
        let name = match &self.registry {
            Some(registry) => format!("{registry}/{}", self.repository),
            None => self.repository.clone(),
        };
        sanitised(&name, &['.', '_', '~', '/'])
            .parse()
            .with_context(|| format!("image name {name:?}"))
    }
}

/// `text` as an appc name: `8080/tcp` becomes `8080-tcp`.
pub fn ac_name(text: &str) -> Result<AcName> {
    sanitised(text, &[])
        .parse()
        .with_context(|| format!("name {text:?}"))
}

/// Lower-case words with one separator between each two: what is neither a word nor one of the
/// `separators` becomes `-`, and of several separators in a row the strongest stays.
fn sanitised(text: &str, separators: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut pending: Option<char> = None;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if let Some(separator) = pending.take().filter(|_| !out.is_empty()) {
                out.push(separator);
            }
            out.push(c.to_ascii_lowercase());
        } else {
            let separator = if separators.contains(&c) { c } else { '-' };
            pending = match pending {
                Some('/') => Some('/'),
                Some(earlier) if separator == '-' => Some(earlier),
                _ => Some(separator),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, name, tag) in [
            ("redis", "redis", None),
            ("redis:7", "redis", Some("7")),
            (
                "docker.io/library/redis:7.2",
                "docker.io/library/redis",
                Some("7.2"),
            ),
            (
                "localhost:5000/Team_A/app",
                "localhost-5000/team_a/app",
                None,
            ),
            ("quay.io/a/b@sha256:00", "quay.io/a/b", None),
            ("foo__bar//baz-", "foo_bar/baz", None),
        ] {
            let reference = Reference::parse(text);
            assert_eq!(reference.image_name().unwrap().as_str(), name, "{text}");
            assert_eq!(reference.tag.as_deref(), tag, "{text}");
        }
        let error = format!("{:#}", Reference::parse("::").image_name().unwrap_err());
        assert!(error.starts_with("image name"), "{error}");
    }

    #[test]
    fn registries_are_told_from_repositories() {
        let registry = |text: &str| Reference::parse(text).registry;
        assert_eq!(registry("library/redis"), None);
        assert_eq!(registry("localhost/redis").as_deref(), Some("localhost"));
        assert_eq!(registry("host:5000/redis:1").as_deref(), Some("host:5000"));
    }

    #[test]
    fn layouts_name_their_images_by_tags_or_in_full() {
        let path = Path::new("/images/redis.tar.gz");
        let tag = Reference::in_layout("7.2", path);
        assert_eq!(tag.image_name().unwrap().as_str(), "redis");
        assert_eq!(tag.tag.as_deref(), Some("7.2"));
        let full = Reference::in_layout("docker.io/library/nginx:1", path);
        assert_eq!(
            full.image_name().unwrap().as_str(),
            "docker.io/library/nginx"
        );
        assert_eq!(Reference::of_file(path).repository, "redis");
    }

    #[test]
    fn ports_and_volumes() {
        assert_eq!(ac_name("8080/tcp").unwrap().as_str(), "8080-tcp");
        assert_eq!(
            ac_name("volume/Data//x_y/").unwrap().as_str(),
            "volume-data-x-y"
        );
        assert!(ac_name("///").is_err());
    }
}
