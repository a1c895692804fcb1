//! Finds the stage1 image in the store, importing it when it is not there.
//!
//! Unpacking and checking an image takes longer than starting a pod, so what was imported from a file is remembered:
//! the file is read again only when it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::appc::ImageId;
use serde::{Deserialize, Serialize};

use crate::image::{ImageSource, SourceKind};
use crate::store::{ImportOptions, Store};
use crate::whole;

/// What identifies a file that was not changed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fingerprint {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of the content or the inode.
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    file: Fingerprint,
    id: ImageId,
}

/// The stage1 image of the file `file`, in the store of the data directory `data`.
pub fn from_file(store: &Store, data: &Path, file: &Path) -> Result<ImageId> {
    let fingerprint = fingerprint(file)?;
    let memory = data.join("stage1.json");
    let remembered = fs::read(&memory)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
        .filter(|remembered| remembered.file == fingerprint)
        // It may have been removed from the store.
        .filter(|remembered| store.manifest(&remembered.id).is_ok());
    if let Some(remembered) = remembered {
        return Ok(remembered.id);
    }
    let source = ImageSource {
        kind: Some(SourceKind::Aci),
        path: file.to_owned(),
        reference: None,
    };
    let id = store.import(&source, &ImportOptions::default())?.id;
    let remembered = Remembered {
        file: fingerprint,
        id: id.clone(),
    };
    whole::write(&memory, &serde_json::to_vec(&remembered)?)?;
    Ok(id)
}

/// The stage1 image beside the program, else the one of the system.
pub fn default_file(program: &Path, system: &Path) -> Result<PathBuf> {
    const NAME: &str = "stage1.aci";
    let beside = program.with_file_name(NAME);
    let system = system.join(NAME);
    let found = [&beside, &system].into_iter().find(|file| file.exists());
    found.cloned().with_context(|| {
        format!(
            "find the stage1 image: there is neither {} nor {}: use --stage1",
            beside.display(),
            system.display()
        )
    })
}

fn fingerprint(file: &Path) -> Result<Fingerprint> {
    let path = fs::canonicalize(file).with_context(|| format!("find {}", file.display()))?;
    let stat = fs::metadata(&path).with_context(|| format!("stat {}", path.display()))?;
    Ok(Fingerprint {
        path,
        device: stat.dev(),
        inode: stat.ino(),
        size: stat.size(),
        modified: (stat.mtime(), stat.mtime_nsec()),
        changed: (stat.ctime(), stat.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stage1.aci");
        fs::write(&file, "a").unwrap();
        let first = fingerprint(&file).unwrap();
        assert_eq!(fingerprint(&file).unwrap(), first);
        fs::write(&file, "ab").unwrap();
        assert_ne!(fingerprint(&file).unwrap(), first);
    }

    #[test]
    fn looks_beside_the_program_first() {
        let dir = tempfile::tempdir().unwrap();
        let (program, system) = (dir.path().join("bin/stage0"), dir.path().join("lib"));
        let error = default_file(&program, &system).unwrap_err().to_string();
        assert!(
            error.contains("bin/stage1.aci") && error.contains("lib/stage1.aci"),
            "{error}"
        );
        fs::create_dir(&system).unwrap();
        fs::write(system.join("stage1.aci"), "").unwrap();
        assert_eq!(
            default_file(&program, &system).unwrap(),
            system.join("stage1.aci")
        );
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/stage1.aci"), "").unwrap();
        assert_eq!(
            default_file(&program, &system).unwrap(),
            dir.path().join("bin/stage1.aci")
        );
    }
}
