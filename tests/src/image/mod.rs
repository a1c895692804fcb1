//! Minimal images in every format that stage0 imports, hostile ones included.

mod archive;
mod formats;

use std::sync::Arc;

use serde_json::{Value, json};

pub use archive::unpacked;
pub use formats::Packing;

/// One entry of a layer. The path is written as it is, `..` and leading slashes included.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    capabilities: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Dir,
    File(Arc<Vec<u8>>),
    Symlink(String),
    Hardlink(String),
    CharacterDevice(u32, u32),
}

/// A directory.
pub fn dir(path: &str, mode: u32) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Dir,
        mode,
        owner: (0, 0),
        capabilities: 0,
    }
}

/// A regular file.
pub fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::File(Arc::new(content.into())),
        mode,
        owner: (0, 0),
        capabilities: 0,
    }
}

/// A symbolic link.
pub fn symlink(path: &str, target: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Symlink(target.into()),
        mode: 0o777,
        owner: (0, 0),
        capabilities: 0,
    }
}

/// A hard link to another entry of the archive.
pub fn hardlink(path: &str, target: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Hardlink(target.into()),
        mode: 0o644,
        owner: (0, 0),
        capabilities: 0,
    }
}

/// The node of a character device.
pub fn character_device(path: &str, mode: u32, major: u32, minor: u32) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::CharacterDevice(major, minor),
        mode,
        owner: (0, 0),
        capabilities: 0,
    }
}

impl Entry {
    /// Gives it to somebody else than root.
    pub fn owned(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Gives who executes it capabilities, as `setcap CAP,…=ep` does.
    pub fn capabilities(mut self, set: u64) -> Self {
        self.capabilities = set;
        self
    }
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name: an appc identifier, or the repository of a Docker image.
    pub name: String,
    /// The app section of an ACI's manifest; the OCI config is made from the same.
    pub app: Value,
    /// Annotations of an ACI's manifest.
    pub annotations: Vec<(String, String)>,
    /// What the later layers replace or remove (`.wh.NAME`), first layer first. An ACI has one.
    pub layers: Vec<Vec<Entry>>,
}

impl Image {
    /// An image without files whose app runs `exec` as root.
    pub fn new(name: &str, exec: &[&str]) -> Self {
        Self {
            name: name.into(),
            app: json!({ "exec": exec, "user": "0", "group": "0" }),
            annotations: Vec::new(),
            layers: vec![Vec::new()],
        }
    }

    /// Sets a field of the app section.
    pub fn app(mut self, field: &str, value: Value) -> Self {
        self.app[field] = value;
        self
    }

    /// Takes the app section away.
    pub fn without_app(mut self) -> Self {
        self.app = Value::Null;
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.into(), value.into()));
        self
    }

    /// Adds to the last layer.
    pub fn with(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.layers
            .last_mut()
            .expect("there is always a layer")
            .extend(entries);
        self
    }

    /// Takes an entry of the first layer away.
    pub fn without(mut self, path: &str) -> Self {
        self.layers[0].retain(|entry| entry.path.trim_end_matches('/') != path);
        self
    }

    /// Starts another layer.
    pub fn layer(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.layers.push(entries.into_iter().collect());
        self
    }

    /// The manifest as an ACI carries it.
    pub fn manifest(&self) -> Value {
        let annotations = self
            .annotations
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }));
        let mut manifest = json!({
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": self.name,
            "labels": [
                { "name": "version", "value": "1" },
                { "name": "arch", "value": "amd64" },
                { "name": "os", "value": "linux" },
            ],
            "app": self.app,
        });
        if self.app.is_null() {
            manifest.as_object_mut().expect("an object").remove("app");
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = annotations.collect();
        }
        manifest
    }
}
