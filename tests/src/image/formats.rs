//! The formats: App Container Image, OCI layout and archive, docker-archive.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::archive::{archive, filter, gzip};
use super::{Image, Kind, dir, file};

/// How an ACI is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Tar,
    /// By gzip.
    Gzip,
    /// By bzip2.
    Bzip2,
    /// By xz.
    Xz,
}

impl Image {
    /// Writes an App Container Image.
    ///
    /// # Errors
    /// When the image has more than one layer, too.
    pub fn aci(&self, path: &Path, packing: Packing) -> Result<()> {
        ensure!(self.layers.len() == 1, "an ACI has one layer");
        let manifest = file("manifest", 0o644, self.manifest().to_string());
        let root = self.layers[0].iter().map(|entry| {
            let mut entry = entry.clone();
            entry.path = format!("rootfs/{}", entry.path);
            if let Kind::Hardlink(target) = &mut entry.kind {
                *target = format!("rootfs/{target}");
            }
            entry
        });
        let entries: Vec<_> = [manifest, dir("rootfs/", 0o755)]
            .into_iter()
            .chain(root)
            .collect();
        let tar = archive(&entries)?;
        let packed = match packing {
            Packing::Tar => tar,
            Packing::Gzip => gzip(&tar)?,
            Packing::Bzip2 => filter("bzip2", &tar)?,
            Packing::Xz => filter("xz", &tar)?,
        };
        fs::write(path, packed).with_context(|| format!("write {}", path.display()))
    }

    /// Writes an OCI image layout, with the image under the reference `tag`.
    pub fn oci(&self, layout: &Path, tag: &str) -> Result<()> {
        for (path, content) in self.oci_files(tag)? {
            write(&layout.join(path), &content)?;
        }
        Ok(())
    }

    /// Writes an OCI archive: a layout as a tar file.
    pub fn oci_archive(&self, path: &Path, tag: &str) -> Result<()> {
        let files = self.oci_files(tag)?;
        let entries: Vec<_> = files
            .into_iter()
            .map(|(path, content)| file(&path, 0o644, content))
            .collect();
        write(path, &archive(&entries)?)
    }

    fn oci_files(&self, tag: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = vec![(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )];
        let mut blob = |media_type: &str, content: Vec<u8>| {
            let digest = hex_sha256(&content);
            let descriptor = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() });
            files.push((format!("blobs/sha256/{digest}"), content));
            descriptor
        };
        let tars = self
            .layers
            .iter()
            .map(|layer| archive(layer))
            .collect::<Result<Vec<_>>>()?;
        let config = blob(
            "application/vnd.oci.image.config.v1+json",
            self.config(&tars).to_string().into_bytes(),
        );
        let layers = tars
            .iter()
            .map(|tar| {
                Ok(blob(
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                    gzip(tar)?,
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        let mut descriptor = blob(media_type, manifest.to_string().into_bytes());
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        files.push(("index.json".into(), index.to_string().into_bytes()));
        Ok(files)
    }

    /// Writes what `docker save` gives.
    pub fn docker_archive(&self, path: &Path, tag: &str) -> Result<()> {
        let tars = self
            .layers
            .iter()
            .map(|layer| archive(layer))
            .collect::<Result<Vec<_>>>()?;
        let config = self.config(&tars).to_string().into_bytes();
        let config_name = format!("{}.json", hex_sha256(&config));
        let layer_names: Vec<_> = tars
            .iter()
            .map(|tar| format!("{}/layer.tar", hex_sha256(tar)))
            .collect();
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [format!("{}:{tag}", self.name)],
            "Layers": layer_names,
        }]);
        let mut entries = vec![file(&config_name, 0o644, config)];
        entries.extend(
            layer_names
                .iter()
                .zip(tars)
                .map(|(name, tar)| file(name, 0o644, tar)),
        );
        entries.push(file("manifest.json", 0o644, manifest.to_string()));
        write(path, &archive(&entries)?)
    }

    /// The OCI (and Docker) image config.
    fn config(&self, tars: &[Vec<u8>]) -> Value {
        let text = |field: &str| self.app[field].as_str().unwrap_or_default();
        let environment = self.app["environment"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ports = self.app["ports"].as_array().cloned().unwrap_or_default();
        let volumes = self.app["mountPoints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let set = |names: Vec<String>| {
            names
                .into_iter()
                .map(|name| (name, json!({})))
                .collect::<serde_json::Map<_, _>>()
        };
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.app["exec"],
                "User": format!("{}:{}", text("user"), text("group")),
                "Env": environment.iter().map(|variable| format!("{}={}", variable["name"].as_str().unwrap_or_default(),
                    variable["value"].as_str().unwrap_or_default())).collect::<Vec<_>>(),
                "WorkingDir": text("workingDirectory"),
                "ExposedPorts": set(ports.iter().map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("tcp"))).collect()),
                "Volumes": set(volumes.iter().map(|point| point["path"].as_str().unwrap_or_default().to_owned()).collect()),
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": tars.iter().map(|tar| format!("sha256:{}", hex_sha256(tar))).collect::<Vec<_>>(),
            },
        })
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
