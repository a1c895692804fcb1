//! Minimal images in every format that stage0 imports, hostile ones included.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One entry of a layer. The path is written as it is, `..` and leading slashes included.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
}

#[derive(Debug, Clone)]
enum Kind {
    Dir,
    File(Vec<u8>),
    Symlink(String),
    Hardlink(String),
}

/// A directory.
pub fn dir(path: &str, mode: u32) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Dir,
        mode,
        owner: (0, 0),
    }
}

/// A regular file.
pub fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::File(content.into()),
        mode,
        owner: (0, 0),
    }
}

/// A symbolic link.
pub fn symlink(path: &str, target: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Symlink(target.into()),
        mode: 0o777,
        owner: (0, 0),
    }
}

/// A hard link to another entry of the archive.
pub fn hardlink(path: &str, target: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Hardlink(target.into()),
        mode: 0o644,
        owner: (0, 0),
    }
}

impl Entry {
    /// Gives it to somebody else than root.
    pub fn owned(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }
}

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
        if !self.annotations.is_empty() {
            manifest["annotations"] = annotations.collect();
        }
        manifest
    }

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

fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0.into());
        header.set_gid(entry.owner.1.into());
        header.set_mtime(1_500_000_000);
        let (kind, content): (_, &[u8]) = match &entry.kind {
            Kind::Dir => (tar::EntryType::Directory, &[]),
            Kind::File(content) => (tar::EntryType::Regular, content),
            Kind::Symlink(target) => {
                header.set_link_name_literal(target)?;
                (tar::EntryType::Symlink, &[])
            }
            Kind::Hardlink(target) => {
                header.set_link_name_literal(target)?;
                (tar::EntryType::Link, &[])
            }
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Not by set_path, which would refuse the hostile ones.
        let name = &mut header.as_gnu_mut().context("a GNU header")?.name;
        ensure!(
            entry.path.len() <= name.len(),
            "path too long for a test image: {}",
            entry.path
        );
        name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.set_cksum();
        builder.append(&header, content)?;
    }
    Ok(builder.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Pipes through a compressor of the host.
fn filter(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut input = tempfile::tempfile()?;
    input.write_all(bytes)?;
    std::io::Seek::rewind(&mut input)?;
    let output = Command::new(program)
        .args(["-1", "-c"])
        .stdin(input)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(output.stdout)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Lower-case hexadecimal SHA-256.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
