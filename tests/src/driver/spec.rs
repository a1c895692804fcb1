//! Pods to be laid out, and their manifests.

use std::path::Path;

use serde_json::{Value, json};

use super::tree::Tree;
use crate::fixture::probe_image;
use crate::image::Image;

/// An app of a pod to be laid out.
pub struct AppSpec {
    /// Its name.
    pub name: String,
    /// Its image; the image manifest's app section is the app's unless `app` is set.
    pub image: Image,
    /// The app section of the pod manifest.
    pub app: Option<Value>,
    /// Other fields of the runtime app.
    pub more: Value,
}

impl AppSpec {
    /// The probe with arguments.
    pub fn probe(name: &str, args: &[&str]) -> Self {
        let exec: Vec<_> = ["/probe"].iter().chain(args).collect();
        let app = json!({ "exec": exec, "user": "0", "group": "0" });
        Self {
            name: name.into(),
            image: probe_image(name),
            app: Some(app),
            more: json!({}),
        }
    }

    /// Sets a field of the runtime app.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.more[field] = value;
        self
    }
}

impl AppSpec {
    /// The app in a pod manifest.
    pub(super) fn runtime(&self, tree: &Tree) -> Value {
        let mut runtime =
            json!({ "name": self.name, "image": { "name": self.image.name, "id": tree.image } });
        if let Some(section) = &self.app {
            runtime["app"] = section.clone();
        }
        merge(runtime, &self.more)
    }
}

/// A pod to be laid out.
pub struct PodSpec {
    /// Overlays, or plain copies.
    pub overlay: bool,
    /// Apps.
    pub apps: Vec<AppSpec>,
    /// Other fields of the pod manifest.
    pub more: Value,
}

impl PodSpec {
    /// A pod of apps.
    pub fn new(overlay: bool, apps: impl IntoIterator<Item = AppSpec>) -> Self {
        Self {
            overlay,
            apps: apps.into_iter().collect(),
            more: json!({}),
        }
    }

    /// Sets a field of the pod manifest.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.more[field] = value;
        self
    }

    /// Shows a directory of the host to all apps at a path.
    pub fn with_volume(mut self, name: &str, source: &Path, target: &str) -> Self {
        let volume = json!({ "name": name, "kind": "host", "source": source });
        match self.more["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(volume),
            None => self.more["volumes"] = json!([volume]),
        }
        for app in &mut self.apps {
            let mount = json!({ "volume": name, "path": target });
            match app.more["mounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => app.more["mounts"] = json!([mount]),
            }
        }
        self
    }

    pub(super) fn manifest(&self, trees: &[Tree]) -> Value {
        let apps = self.apps.iter().zip(trees);
        let apps = apps.map(|(app, tree)| app.runtime(tree));
        let pod = json!({
            "acVersion": "0.8.11",
            "acKind": "PodManifest",
            "apps": apps.collect::<Vec<_>>(),
            "volumes": null,
            "isolators": null,
            "annotations": null,
            "ports": [],
        });
        merge(pod, &self.more)
    }
}

fn merge(mut value: Value, more: &Value) -> Value {
    for (field, other) in more.as_object().into_iter().flatten() {
        value[field] = other.clone();
    }
    value
}
