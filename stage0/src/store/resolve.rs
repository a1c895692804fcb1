//! Finding images by what people call them.

use anyhow::{Result, bail};
use common::appc::{Dependency, ImageId};

use super::{Store, StoredImage};

/// The version that an image without the label has, as docker sees it.
const DEFAULT_VERSION: &str = "latest";

impl StoredImage {
    /// The version label.
    pub fn version(&self) -> Option<&str> {
        self.manifest.label("version")
    }

    /// `NAME[:VERSION]`.
    pub fn title(&self) -> String {
        match self.version() {
            Some(version) => format!("{}:{version}", self.manifest.name),
            None => self.manifest.name.to_string(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.manifest.name.as_str() == name
    }

    /// Whether the name ends in `name`, a whole number of parts: `redis` is that of `library/redis`.
    fn ends_in(&self, name: &str) -> bool {
        let rest = self.manifest.name.as_str().strip_suffix(name);
        rest.is_some_and(|rest| rest.ends_with('/'))
    }

    /// Whether the two differ in nothing that a user could ask for.
    fn is_same(&self, other: &Self) -> bool {
        let labels = |image: &Self| {
            let mut labels: Vec<_> = image.manifest.labels.clone();
            labels.sort_by(|a, b| a.name.cmp(&b.name));
            labels
        };
        self.manifest.name == other.manifest.name && labels(self) == labels(other)
    }
}

impl Store {
    /// Finds an image by its id, a unique prefix of its id (`sha512-…`), `NAME` or `NAME:VERSION`. The
    /// name may lack leading parts: `redis` finds `docker.io/library/redis`. Of images with the same
    /// name and labels the one imported last is meant; otherwise a choice is an error that names the
    /// candidates.
    pub fn resolve(&self, image: &str) -> Result<ImageId> {
        let images = self.list()?;
        if image.starts_with("sha512-") {
            let found = images
                .into_iter()
                .filter(|i| i.id.as_str().starts_with(image));
            return one(image, found.collect());
        }
        let (name, version) = match image.rsplit_once(':') {
            Some((name, version)) if !version.contains('/') => (name, Some(version)),
            _ => (image, None),
        };
        let fits = |i: &StoredImage| {
            version.is_none_or(|version| i.version().unwrap_or(DEFAULT_VERSION) == version)
        };
        let (exact, others): (Vec<_>, Vec<_>) = images
            .into_iter()
            .filter(fits)
            .partition(|i| i.is_called(name));
        let found = match exact.is_empty() {
            false => exact,
            true => others.into_iter().filter(|i| i.ends_in(name)).collect(),
        };
        one(image, found)
    }

    /// Finds the image that another one depends on.
    pub(super) fn dependency(&self, dependency: &Dependency) -> Result<ImageId> {
        let mut wanted = dependency.image_name.to_string();
        for label in &dependency.labels {
            wanted.push_str(&format!(",{}={}", label.name, label.value));
        }
        if let Some(id) = &dependency.image_id {
            wanted.push_str(&format!(",{id}"));
        }
        let fits = |i: &StoredImage| {
            let id = dependency.image_id.as_ref();
            let labels = dependency.labels.iter();
            i.manifest.name == dependency.image_name
                && id.is_none_or(|id| i.id.as_str().starts_with(id.as_str()))
                && labels
                    .map(|l| (l.name.as_str(), l.value.as_str()))
                    .all(|(name, value)| i.manifest.label(name) == Some(value))
        };
        one(&wanted, self.list()?.into_iter().filter(fits).collect())
    }
}

/// The only candidate, or the newest of those that are the same.
fn one(wanted: &str, mut found: Vec<StoredImage>) -> Result<ImageId> {
    if found.len() > 1 && found.iter().all(|i| i.is_same(&found[0])) {
        found.sort_by_key(|i| i.imported);
        found.drain(..found.len() - 1);
    }
    match found.as_slice() {
        [] => bail!("image {wanted}: is not in the store"),
        [image] => Ok(image.id.clone()),
        several => {
            let short = |i: &StoredImage| i.id.as_str().chars().take(19).collect::<String>();
            let names = several
                .iter()
                .map(|i| format!("{} ({})", i.title(), short(i)));
            let names = names.collect::<Vec<_>>().join(", ");
            bail!("image {wanted}: is any of {names}")
        }
    }
}
