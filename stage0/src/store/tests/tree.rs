//! Looking at a tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What each path of a tree is: `dir 755`, `file 644 CONTENT`, `link TARGET`, `other`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing(BTreeMap<String, String>);

impl Listing {
    pub(super) fn of(root: &Path) -> Self {
        let mut listing = BTreeMap::new();
        list(root, root, &mut listing);
        Self(listing)
    }

    /// Compares the whole tree, but for the root.
    #[track_caller]
    pub(super) fn assert(&self, expected: &[(&str, &str)]) {
        let found: Vec<_> = self
            .0
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

fn list(root: &Path, directory: &Path, listing: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        let text = if metadata.is_dir() {
            list(root, &path, listing);
            format!("dir {mode:o}")
        } else if metadata.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_file() {
            format!(
                "file {mode:o} {}",
                String::from_utf8_lossy(&fs::read(&path).unwrap())
            )
        } else {
            format!(
                "other {:o} {:x}",
                metadata.mode() & 0o170000,
                metadata.rdev()
            )
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        listing.insert(name, text);
    }
}
