//! Images rendered to trees in the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use sha2::{Digest, Sha512};

use crate::harness;
use crate::image::{Image, Packing, unpacked};
use crate::process::spawning;

/// A rendered image.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Its name in the store.
    pub id: String,
    /// Image ID.
    pub image: String,
    /// Root file system.
    pub rootfs: PathBuf,
    /// Image manifest, as the archive has it.
    pub manifest: String,
}

impl Tree {
    /// The stage1 under test, rendered once for all tests.
    pub fn stage1() -> Result<&'static Tree> {
        static STAGE1: OnceLock<Result<Tree, String>> = OnceLock::new();
        STAGE1
            .get_or_init(|| {
                Self::render(&harness::build_dir().join("stage1.aci"))
                    .map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| anyhow!("render stage1.aci: {error}"))
    }

    /// An app's image.
    pub fn of(image: &Image) -> Result<Tree> {
        let aci = tempfile::NamedTempFile::new_in(harness::scratch())?;
        image.aci(aci.path(), Packing::Tar)?;
        Self::render(aci.path())
    }

    /// Unpacks an ACI into the store.
    fn render(aci: &Path) -> Result<Tree> {
        let archive = unpacked(aci).with_context(|| format!("read {}", aci.display()))?;
        let image = format!(
            "sha512-{}",
            Sha512::digest(&archive)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        );
        let id = format!("deps-{image}");
        let dir = harness::scratch().join("store").join(&id);
        let rendered = dir.join("rendered");
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = ONE_AT_A_TIME
            .lock()
            .map_err(|_| anyhow!("another test failed to render"))?;
        if !rendered.exists() {
            fs::create_dir_all(&dir)?;
            let mut tar = tar::Archive::new(archive.as_slice());
            tar.set_preserve_permissions(true);
            tar.set_preserve_ownerships(true);
            tar.set_unpack_xattrs(true);
            let _alone = spawning();
            tar.unpack(&dir)
                .with_context(|| format!("unpack {}", aci.display()))?;
            fs::write(&rendered, "")?;
        }
        let manifest =
            fs::read_to_string(dir.join("manifest")).context("read the image manifest")?;
        Ok(Tree {
            id,
            image,
            rootfs: dir.join("rootfs"),
            manifest,
        })
    }

    /// Value of an annotation of the manifest.
    pub fn annotation(&self, name: &str) -> Result<String> {
        let manifest: Value =
            serde_json::from_str(&self.manifest).context("parse the image manifest")?;
        let annotations = manifest["annotations"]
            .as_array()
            .context("the manifest has no annotations")?;
        let found = annotations
            .iter()
            .find(|annotation| annotation["name"] == name);
        let value = found.and_then(|annotation| annotation["value"].as_str());
        Ok(value
            .with_context(|| format!("no annotation {name}"))?
            .to_owned())
    }

    /// Copies the root file system.
    pub fn copy_to(&self, target: &Path) -> Result<()> {
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto", "--no-target-directory"])
            .arg(&self.rootfs)
            .arg(target);
        crate::process::run(copy)?.expect(0)?;
        Ok(())
    }
}
