//! OCI layouts on disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layout that is being written.
pub(super) struct Layout {
    pub(super) path: PathBuf,
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(super) fn sha256(data: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(data))
}

/// As docker and OCI name this machine.
pub(super) fn host_arch() -> String {
    crate::image::platform::Platform::host().arch.to_string()
}

impl Layout {
    pub(super) fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            path: path.to_owned(),
        }
    }

    pub(super) fn blob_path(&self, digest: &str) -> PathBuf {
        self.path.join("blobs").join(digest.replace(':', "/"))
    }

    /// Writes a blob, and gives its descriptor.
    pub(super) fn blob(&self, kind: &str, content: &[u8]) -> Value {
        let digest = sha256(content);
        fs::write(self.blob_path(&digest), content).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": content.len()})
    }

    pub(super) fn document(&self, kind: &str, content: &Value) -> Value {
        self.blob(kind, &serde_json::to_vec(content).unwrap())
    }

    /// Writes a manifest of layers, of which `plain` is the uncompressed form, and gives its descriptor.
    pub(super) fn manifest(&self, config: Value, layers: &[(Value, Vec<u8>)]) -> Value {
        let diffs: Vec<_> = layers.iter().map(|(_, plain)| sha256(plain)).collect();
        let mut whole = json!({
            "architecture": host_arch(),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        for (key, value) in config.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let config = self.document(CONFIG, &whole);
        let layers: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.document(MANIFEST, &manifest)
    }

    pub(super) fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    /// Uncompressed layers.
    pub(super) fn plain(&self, layers: Vec<Vec<u8>>) -> Vec<(Value, Vec<u8>)> {
        layers
            .into_iter()
            .map(|l| (self.blob(LAYER, &l), l))
            .collect()
    }

    /// A layout of one image with a command.
    pub(super) fn image(&self, layers: Vec<Vec<u8>>) {
        let layers = self.plain(layers);
        let manifest = self.manifest(json!({"config": {"Cmd": ["/run"]}}), &layers);
        self.index(&[manifest]);
    }

    /// The layout as a tar archive.
    pub(super) fn archive(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", &self.path).unwrap();
        builder.into_inner().unwrap()
    }
}
