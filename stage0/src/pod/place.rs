//! Where pod directories are.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::pod::PodDir;

use super::lock::Lock;
use crate::store::TreeId;

/// The folders that a pod directory moves through, in the order of a pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Just made.
    Embryo,
    /// Being filled.
    Prepare,
    /// Ready to run.
    Prepared,
    /// Was started.
    Run,
    /// Has ended, and is kept for a while.
    ExitedGarbage,
    /// To be deleted, with nothing to free but its files.
    Garbage,
}

impl Place {
    /// All places, in the order of a pod's life.
    pub const ALL: [Self; 6] = [
        Self::Embryo,
        Self::Prepare,
        Self::Prepared,
        Self::Run,
        Self::ExitedGarbage,
        Self::Garbage,
    ];

    fn folder(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Prepare => "prepare",
            Self::Prepared => "prepared",
            Self::Run => "run",
            Self::ExitedGarbage => "exited-garbage",
            Self::Garbage => "garbage",
        }
    }
}

/// The pods of a data directory.
#[derive(Debug, Clone)]
pub struct Pods {
    data: PathBuf,
}

impl Pods {
    /// The pods of the data directory `data`, an absolute path.
    pub fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of a place.
    pub fn folder(&self, place: Place) -> PathBuf {
        self.data.join("pods").join(place.folder())
    }

    /// Where the pod `uuid` is when it is in `place`.
    pub fn dir(&self, place: Place, uuid: &Uuid) -> PodDir {
        PodDir::new(self.folder(place).join(uuid.as_str()))
    }

    /// Makes a pod directory, locked, in [`Place::Embryo`].
    pub fn create(&self) -> Result<(Uuid, Lock)> {
        for place in Place::ALL {
            let folder = self.folder(place);
            // Not for other users: images may hold programs that gain privileges.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .with_context(|| format!("make {}", folder.display()))?;
        }
        // Held until the new directory is locked, so that gc takes no embryo for an abandoned one.
        let _sweep = self.lock_embryos()?;
        let uuid = new_uuid()?;
        let dir = self.dir(Place::Embryo, &uuid);
        let path = dir.path();
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        match Lock::try_exclusive(path)? {
            Some(lock) => Ok((uuid, lock)),
            None => bail!("lock {}: somebody else holds it", path.display()),
        }
    }

    /// Keeps others from making embryos, or from sweeping them away.
    pub fn lock_embryos(&self) -> Result<Lock> {
        Lock::exclusive(&self.folder(Place::Embryo))
    }

    /// Moves the pod `uuid`, whose lock the caller holds.
    pub fn rename(&self, uuid: &Uuid, from: Place, to: Place) -> Result<PodDir> {
        let (from, to) = (self.dir(from, uuid), self.dir(to, uuid));
        // The user may have deleted an empty folder.
        if let Some(folder) = to.path().parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::rename(from.path(), to.path()).with_context(|| {
            format!("move {} to {}", from.path().display(), to.path().display())
        })?;
        Ok(to)
    }

    /// The UUIDs of all pods, sorted.
    pub fn uuids(&self) -> Result<Vec<Uuid>> {
        let mut uuids = Vec::new();
        // In the order of life: a pod that moves meanwhile is met in its next place.
        for place in Place::ALL {
            uuids.extend(self.uuids_in(place)?);
        }
        uuids.sort();
        uuids.dedup();
        Ok(uuids)
    }

    /// The UUIDs of the pods in one place, sorted.
    pub fn uuids_in(&self, place: Place) -> Result<Vec<Uuid>> {
        let folder = self.folder(place);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err).with_context(|| format!("read {}", folder.display())),
        };
        let mut uuids = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            // Whatever else lies there is not a pod.
            uuids.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok()),
            );
        }
        uuids.sort();
        Ok(uuids)
    }

    /// The one pod whose UUID begins with `prefix`.
    pub fn find(&self, prefix: &str) -> Result<Uuid> {
        let wanted = prefix.to_ascii_lowercase();
        let mut found = self.uuids()?;
        found.retain(|uuid| uuid.as_str().starts_with(&wanted));
        match found.as_slice() {
            _ if wanted.is_empty() => bail!("find pod: the UUID is empty"),
            [] => bail!("find pod {prefix}: there is none"),
            [uuid] => Ok(uuid.clone()),
            many => {
                let many: Vec<&str> = many.iter().map(Uuid::as_str).collect();
                bail!("find pod {prefix}: several begin so: {}", many.join(", "))
            }
        }
    }

    /// Whether a pod uses a tree of the store, as stage1 or as the root of an app.
    pub fn use_tree(&self, tree: &TreeId) -> Result<bool> {
        let tree = tree.to_string();
        for place in Place::ALL {
            for uuid in self.uuids_in(place)? {
                // Each tree in use has its layers in the pod.
                if self.dir(place, &uuid).overlay(&tree).exists() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// A random UUID, made by the kernel.
fn new_uuid() -> Result<Uuid> {
    let file = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("read {file}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const B: &str = "aaaaaaab-0000-4000-8000-000000000002";
    const TREE: &str = "tree-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pods_with(dirs: &[(Place, &str)]) -> (tempfile::TempDir, Pods) {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        for (place, name) in dirs {
            fs::create_dir_all(pods.folder(*place).join(name)).unwrap();
        }
        (data, pods)
    }

    #[test]
    fn finds_by_unique_prefix() {
        let (_data, pods) =
            pods_with(&[(Place::Run, A), (Place::Prepared, B), (Place::Run, "junk")]);
        assert_eq!(pods.find("aaaaaaaa").unwrap().as_str(), A);
        assert_eq!(pods.find("AAAAAAAB-0").unwrap().as_str(), B);
        assert_eq!(pods.find(B).unwrap().as_str(), B);
        for (prefix, expected) in [
            ("", "find pod: the UUID is empty".to_owned()),
            ("b", "find pod b: there is none".to_owned()),
            ("junk", "find pod junk: there is none".to_owned()),
            ("aa", format!("find pod aa: several begin so: {A}, {B}")),
        ] {
            assert_eq!(pods.find(prefix).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_data_directory_without_pods_is_empty() {
        let (_data, pods) = pods_with(&[]);
        assert!(pods.uuids().unwrap().is_empty());
    }

    #[test]
    fn creates_locked_embryos() {
        let (_data, pods) = pods_with(&[]);
        let (uuid, lock) = pods.create().unwrap();
        let dir = pods.dir(Place::Embryo, &uuid);
        assert!(Lock::try_exclusive(dir.path()).unwrap().is_none());
        let moved = pods.rename(&uuid, Place::Embryo, Place::Prepare).unwrap();
        assert!(Lock::try_exclusive(moved.path()).unwrap().is_none());
        drop(lock);
        assert!(Lock::try_exclusive(moved.path()).unwrap().is_some());
    }

    #[test]
    fn knows_which_trees_are_in_use() {
        let (_data, pods) = pods_with(&[(Place::Prepared, A)]);
        let tree: TreeId = TREE.parse().unwrap();
        assert!(!pods.use_tree(&tree).unwrap());
        let layers = pods.dir(Place::Prepared, &A.parse().unwrap()).overlay(TREE);
        fs::create_dir_all(layers).unwrap();
        assert!(pods.use_tree(&tree).unwrap());
    }
}
