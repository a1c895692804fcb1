//! Turning the configuration of an OCI or docker image into an appc image manifest.
//!
//! The names of mount points, ports and `appc.io/docker/` annotations are those that docker2aci gave
//! them, since stage1, other stage0s and their users know them.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use common::annotation::DOCKER_REPOSITORY;
use common::appc::{Annotation, App, EnvironmentVariable, ImageManifest, Label, ManifestError};
use oci_spec::image::{Config, Digest, ImageConfiguration};
use serde_json::Map;

use super::exposed;
use super::platform::Platform;
use super::reference::Reference;

/// Annotations that OCI has and appc knows under another name.
const KNOWN_ANNOTATIONS: [(&str, &str); 4] = [
    ("org.opencontainers.image.created", "created"),
    ("org.opencontainers.image.authors", "authors"),
    ("org.opencontainers.image.url", "homepage"),
    ("org.opencontainers.image.documentation", "documentation"),
];

/// What is known of a foreign image.
#[derive(Debug)]
pub struct Foreign<'a> {
    /// Its configuration.
    pub config: &'a ImageConfiguration,
    /// The digest of its configuration, which docker calls the image id.
    pub config_digest: &'a Digest,
    /// The digest of its manifest, if it has one.
    pub manifest_digest: Option<&'a Digest>,
    /// Its name.
    pub reference: &'a Reference,
    /// Annotations of its manifest.
    pub annotations: Option<&'a HashMap<String, String>>,
}

/// The appc manifest of an image, and a sentence for each thing that could not be carried over.
pub fn image_manifest(foreign: &Foreign) -> Result<(ImageManifest, Vec<String>)> {
    let config = foreign.config;
    let mut draft = Draft {
        manifest: ImageManifest::new(foreign.reference.image_name()?),
        warnings: Vec::new(),
    };
    draft.labels(foreign);
    draft.annotations(foreign)?;
    if let Some(config) = config.config() {
        draft.app(config)?;
    }
    draft.manifest.validate()?;
    Ok((draft.manifest, draft.warnings))
}

struct Draft {
    manifest: ImageManifest,
    warnings: Vec<String>,
}

impl Draft {
    /// Makes a change, and takes it back with a warning if the manifest is no longer valid: an image
    /// should not be refused for a field that appc is stricter about.
    fn change(&mut self, field: &str, change: impl FnOnce(&mut ImageManifest)) {
        let before = self.manifest.clone();
        change(&mut self.manifest);
        if let Err(error) = self.manifest.validate() {
            self.manifest = before;
            let cause = match error {
                ManifestError::Field { value, rule, .. } => {
                    format!(
                        "{}{rule}",
                        value.map(|v| format!("{v} ")).unwrap_or_default()
                    )
                }
                other => other.to_string(),
            };
            self.warnings.push(format!("{field} is left out: {cause}"));
        }
    }

    fn labels(&mut self, foreign: &Foreign) {
        let platform = Platform {
            os: foreign.config.os().clone(),
            arch: foreign.config.architecture().clone(),
            variant: foreign.config.variant().clone(),
        };
        let host = Platform::host();
        if !platform.runs_on(&host) {
            let warning = format!("the image is for {platform}, this machine is {host}");
            self.warnings.push(warning);
        }
        let (os, arch) = platform.appc();
        let version = foreign.reference.tag.clone();
        let labels = [("version", version), ("os", Some(os)), ("arch", Some(arch))];
        for (name, value) in labels {
            let Some(value) = value else { continue };
            self.change(&format!("label {name}"), |manifest| {
                manifest.labels.extend(label(name, value));
            });
        }
    }

    fn annotations(&mut self, foreign: &Foreign) -> Result<()> {
        let mut values = BTreeMap::new();
        let labels = foreign.config.labels_of_config();
        for source in [labels, foreign.annotations].into_iter().flatten() {
            for (theirs, ours) in KNOWN_ANNOTATIONS {
                if let Some(value) = source.get(theirs) {
                    values.insert(ours, value.clone());
                }
            }
        }
        let own = [
            ("created", foreign.config.created()),
            ("authors", foreign.config.author()),
        ];
        for (name, value) in own {
            values.extend(value.clone().map(|value| (name, value)));
        }
        let reference = foreign.reference;
        values.insert("appc.io/docker/originalname", reference.original.clone());
        values.insert(DOCKER_REPOSITORY, reference.repository.clone());
        values.insert("appc.io/docker/imageid", foreign.config_digest.to_string());
        let optional = [
            ("registryurl", reference.registry.clone()),
            ("tag", reference.tag.clone()),
            (
                "manifesthash",
                foreign.manifest_digest.map(Digest::to_string),
            ),
        ];
        for (name, value) in optional {
            self.docker_annotation(name, value);
        }
        if let Some(config) = foreign.config.config() {
            let list = |list: &Option<Vec<String>>| match list {
                Some(list) if !list.is_empty() => Some(serde_json::to_string(list)).transpose(),
                _ => Ok(None),
            };
            self.docker_annotation("entrypoint", list(config.entrypoint())?);
            self.docker_annotation("cmd", list(config.cmd())?);
            self.docker_annotation("stopsignal", config.stop_signal().clone());
        }
        for (name, value) in values {
            self.annotation(name, value);
        }
        self.manifest
            .annotations
            .sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    fn docker_annotation(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.annotation(&format!("appc.io/docker/{name}"), value);
        }
    }

    fn annotation(&mut self, name: &str, value: String) {
        if value.is_empty() {
            return;
        }
        self.change(&format!("annotation {name}"), |manifest| {
            let name = name.parse().ok();
            manifest.annotations.extend(name.map(|name| Annotation {
                name,
                value,
                extra: Map::new(),
            }));
        });
    }

    fn app(&mut self, config: &Config) -> Result<()> {
        let (user, group) = identity(config.user().as_deref().unwrap_or_default());
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let labels = config.labels().clone().unwrap_or_default();
        self.manifest.app = Some(App {
            exec: [list(config.entrypoint()), list(config.cmd())].concat(),
            user,
            group,
            user_labels: labels.into_iter().collect(),
            ..App::default()
        });
        if let Some(directory) = config.working_dir().as_deref().filter(|d| !d.is_empty()) {
            let directory = absolute(directory);
            self.change_app("config.WorkingDir", |app| {
                app.working_directory = Some(directory);
            });
        }
        self.environment(&list(config.env()));
        for port in exposed::ports(&list(config.exposed_ports()))? {
            let field = format!("config.ExposedPorts[{:?}]", port.name.as_str());
            self.change_app(&field, |app| app.ports.push(port));
        }
        for point in exposed::mount_points(&list(config.volumes()))? {
            let field = format!("config.Volumes[{:?}]", point.path);
            self.change_app(&field, |app| app.mount_points.push(point));
        }
        Ok(())
    }

    fn change_app(&mut self, field: &str, change: impl FnOnce(&mut App)) {
        self.change(field, |manifest| {
            if let Some(app) = &mut manifest.app {
                change(app);
            }
        });
    }

    fn environment(&mut self, variables: &[String]) {
        // A variable that is set twice has its last value, as in docker.
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (name, value) in variables.iter().filter_map(|v| v.split_once('=')) {
            match seen.iter_mut().find(|(earlier, _)| *earlier == name) {
                Some(earlier) => earlier.1 = value,
                None => seen.push((name, value)),
            }
        }
        for (name, value) in seen {
            let variable = EnvironmentVariable {
                name: name.to_owned(),
                value: value.to_owned(),
                extra: Map::new(),
            };
            self.change_app(&format!("environment variable {name:?}"), |app| {
                app.environment.push(variable);
            });
        }
    }
}

fn label(name: &str, value: String) -> Option<Label> {
    Some(Label {
        name: name.parse().ok()?,
        value,
        extra: Map::new(),
    })
}

/// `USER[:GROUP]`. The group of a user without one is left to stage1, which finds the group of the same
/// name or number in the image, and for docker images otherwise takes the user's number.
fn identity(user: &str) -> (String, String) {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let user = if user.is_empty() { "0" } else { user };
    let group = if group.is_empty() { user } else { group };
    (user.to_owned(), group.to_owned())
}

/// Paths in docker's configuration may lack the slash that appc's must have.
pub(super) fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}
