//! Images made in the test are imported and rendered, and the trees looked at.

mod aci;
mod archive;
mod convert;
mod docker;
mod hostile;
mod layers;
mod layout;
mod life;
mod metadata;
mod oci;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::Result;
use common::appc::ImageId;
use tempfile::TempDir;

use super::{ImportOptions, Imported, Store};
use archive::Archive;
use tree::Listing;

/// A store in a temporary directory, with room for the images to import.
struct Fixture {
    dir: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data")).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file to import.
    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn import(&self, source: &str) -> Result<Imported> {
        self.store
            .import(&source.parse()?, &ImportOptions::default())
    }

    fn import_path(&self, path: &Path) -> Result<Imported> {
        self.import(path.to_str().unwrap())
    }

    /// Imports an ACI of these entries below `rootfs/`.
    fn import_aci(&self, manifest: &str, entries: Archive) -> Result<ImageId> {
        let path = self.write("test.aci", &archive::aci(manifest, entries));
        Ok(self.import_path(&path)?.id)
    }

    /// Imports an OCI image of these layers, and renders it.
    fn layers(&self, layers: Vec<Archive>) -> Result<Listing> {
        let layers = layers.into_iter().map(Archive::bytes).collect();
        let path = self.path("layout");
        layout::Layout::new(&path).image(layers);
        let image = self.import_path(&path)?;
        self.rendered(&image.id)
    }

    fn rendered(&self, id: &ImageId) -> Result<Listing> {
        Ok(Listing::of(&self.store.render(id)?.rootfs))
    }

    /// The error of an import, which must leave the store empty.
    fn refused(&self, source: &str) -> String {
        let error = format!("{:#}", self.import(source).unwrap_err());
        assert!(!error.contains(char::is_control), "one line: {error:?}");
        assert!(error.starts_with("import /"), "{error}");
        self.assert_empty();
        error
    }

    fn assert_empty(&self) {
        for directory in ["images", "trees", "tmp"] {
            let path = self.path("data/store").join(directory);
            let names: Vec<_> = std::fs::read_dir(path).unwrap().collect();
            assert!(names.is_empty(), "{directory}: {names:?}");
        }
    }
}

/// Whether the test may run; tests that give files to other users need root.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped {test}: giving files away and making devices needs root");
    }
    root
}
