//! Packing: an ACI is a tar file with `manifest` and `rootfs/`, here compressed with xz.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
use liblzma::write::XzEncoder;

use crate::manifest::Manifest;
use crate::tree::{Kind, Tree};

/// The modification time of every entry, 2024-01-01: any fixed time will do but 0, which some programs take for "none".
const MTIME: u64 = 1_704_067_200;

/// The slower presets give the same size here in twice the time; what helps is a dictionary that holds the whole image.
const PRESET: u32 = 6;
const DICTIONARY: u32 = 32 << 20;

/// Writes the image and gives its size. The file is there whole or not at all.
pub(crate) fn write(output: &Path, manifest: &Manifest, tree: &Tree) -> Result<u64> {
    let folder = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("create a file in {}", folder.display()))?;
    pack(BufWriter::new(&mut file), manifest, tree)
        .with_context(|| format!("write {}", output.display()))?;
    let size = file
        .as_file()
        .metadata()
        .with_context(|| format!("examine {}", output.display()))?
        .len();
    file.persist(output)
        .with_context(|| format!("write {}", output.display()))?;
    Ok(size)
}

fn pack(file: impl Write, manifest: &Manifest, tree: &Tree) -> Result<()> {
    let mut archive = tar::Builder::new(XzEncoder::new_stream(file, compressor()?));
    let manifest = manifest.bytes()?;
    archive.append_data(
        &mut header(tar::EntryType::Regular, 0o644, manifest.len() as u64),
        "manifest",
        &*manifest,
    )?;
    archive.append_data(
        &mut header(tar::EntryType::Directory, 0o755, 0),
        "rootfs/",
        std::io::empty(),
    )?;
    for (path, entry) in tree.entries() {
        let path = format!("rootfs/{path}");
        match &entry.kind {
            Kind::Folder => {
                let mut header = header(tar::EntryType::Directory, entry.mode, 0);
                archive.append_data(&mut header, path + "/", std::io::empty())?;
            }
            Kind::File(data) => {
                let mut header = header(tar::EntryType::Regular, entry.mode, data.len() as u64);
                archive.append_data(&mut header, path, data.as_slice())?;
            }
            Kind::Link(target) => {
                archive.append_link(
                    &mut header(tar::EntryType::Symlink, entry.mode, 0),
                    path,
                    target,
                )?;
            }
        }
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(size);
    header
}

/// Nearly all of the image is x86 code: the filter for its jumps saves 5 %.
fn compressor() -> Result<Stream> {
    let mut options = LzmaOptions::new_preset(PRESET).context("set up the compressor")?;
    options.dict_size(DICTIONARY);
    let mut filters = Filters::new();
    filters.x86().lzma2(&options);
    Stream::new_stream_encoder(&filters, Check::Crc64).context("set up the compressor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::tree::Origin;

    fn packed(folder: &Path, name: &str) -> Vec<u8> {
        let template = folder.join("manifest.in");
        std::fs::write(&template, r#"{"acKind": "ImageManifest"}"#).unwrap();
        let mut tree = Tree::default();
        tree.insert_program("usr/bin/x", b"program".to_vec(), Origin::Project);
        tree.insert_link("bin", "usr/bin");
        let output = folder.join(name);
        write(&output, &manifest::from_template(&template).unwrap(), &tree).unwrap();
        std::fs::read(output).unwrap()
    }

    #[test]
    fn the_manifest_is_first_and_folders_come_before_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let image = packed(folder.path(), "a/b.aci");
        let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(image.as_slice()));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, MTIME)
            );
            (
                entry.path().unwrap().to_string_lossy().into_owned(),
                header.mode().unwrap(),
            )
        });
        let expected = [
            ("manifest", 0o644),
            ("rootfs/", 0o755),
            ("rootfs/bin", 0o777),
            ("rootfs/usr/", 0o755),
            ("rootfs/usr/bin/", 0o755),
            ("rootfs/usr/bin/x", 0o755),
        ];
        assert!(entries.eq(expected.map(|(path, mode)| (path.to_owned(), mode))));
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            packed(folder.path(), "1.aci"),
            packed(folder.path(), "2.aci")
        );
    }
}
