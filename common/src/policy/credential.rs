//! Files of the host that an app gets as credentials: what `LoadCredential=` is to a service of systemd.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::keys::CREDENTIAL;
use crate::appc::Annotation;

/// How many bytes the credentials of an app may have together, as with systemd (systemd.exec(5), `LoadCredential=`).
pub const MAX: u64 = 1024 * 1024;

/// The content of credentials by their names, which is not for logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    /// Reads the host's files.
    ///
    /// # Errors
    /// A file that is missing, none, or larger than all may be together; the message names the annotation.
    pub fn read(files: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut all = BTreeMap::new();
        let mut left = MAX;
        for (name, path) in files {
            let content = content(path, left)
                .with_context(|| format!("annotation {CREDENTIAL}{name}: {}", path.display()))?;
            left -= content.len() as u64;
            all.insert(name.clone(), content);
        }
        Ok(Credentials(all))
    }
}

fn content(path: &PathBuf, left: u64) -> Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        bail!("must be a file");
    }
    let mut content = Vec::new();
    File::open(path)?.take(left + 1).read_to_end(&mut content)?;
    if content.len() as u64 > left {
        bail!("the credentials of an app may have at most {MAX} bytes together");
    }
    Ok(content)
}

/// Which files an app gets, by the names of the credentials.
pub(super) fn files(annotations: &[Annotation]) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for annotation in annotations {
        let key = annotation.name.as_str();
        let Some(name) = key.strip_prefix(CREDENTIAL) else {
            continue;
        };
        // Names of annotations have neither dots nor slashes at their ends, nor other letters than small ones.
        if name.contains('/') || name.len() > 255 {
            bail!("annotation {key}: {name:?} must be the name of a file, of at most 255 bytes");
        }
        let path = PathBuf::from(&annotation.value);
        if !path.is_absolute() || annotation.value.contains('\0') {
            let value = &annotation.value;
            bail!("annotation {key}: {value:?} must be the absolute path of a file of the host");
        }
        files.insert(name.to_owned(), path);
    }
    Ok(files)
}
