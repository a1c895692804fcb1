//! Layers as tar files, and their compression.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Entry, Kind};

/// The unit of headers and of contents in an archive, bytes.
const BLOCK: usize = 512;

pub(super) fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let sizes = entries.iter().map(|entry| match &entry.kind {
        Kind::File(content) => content.len() + 2 * BLOCK,
        _ => BLOCK,
    });
    // With the end of the archive. More is made when it is not enough.
    let size = sizes.sum::<usize>() + 2 * BLOCK;
    let mut builder = tar::Builder::new(Vec::with_capacity(size));
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
            Kind::CharacterDevice(major, minor) => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                (tar::EntryType::Char, &[])
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
        if entry.capabilities != 0 {
            let name = "SCHILY.xattr.security.capability";
            builder.append_pax_extensions([(
                name,
                file_capabilities(entry.capabilities).as_slice(),
            )])?;
        }
        builder.append(&header, content)?;
    }
    Ok(builder.into_inner()?)
}

/// `struct vfs_cap_data` of the kernel: version 2, effective; then permitted and inheritable, low and high halves apart.
fn file_capabilities(set: u64) -> Vec<u8> {
    const VERSION_2_EFFECTIVE: u32 = 0x0200_0001;
    let (low, high) = (set & u64::from(u32::MAX), set >> 32);
    let halves = [low, 0, high, 0].map(|half| u32::try_from(half).expect("a half"));
    let words = [VERSION_2_EFFECTIVE].into_iter().chain(halves);
    words.flat_map(u32::to_le_bytes).collect()
}

pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Pipes through a compressor of the host.
pub(super) fn filter(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut input = tempfile::tempfile()?;
    input.write_all(bytes)?;
    std::io::Seek::rewind(&mut input)?;
    piped(program, "-1c", input)
}

/// The archive without its compression: gzip, or by the host's program for xz and bzip2, or none.
pub fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let mut magic = [0; 6];
    File::open(path)?.read_exact(&mut magic)?;
    let program = match &magic {
        b"\xfd7zXZ\0" => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        [b'B', b'Z', b'h', ..] => "bzip2",
        _ => return Ok(fs::read(path)?),
    };
    piped(program, "-dc", File::open(path)?)
}

fn piped(program: &str, options: &str, input: File) -> Result<Vec<u8>> {
    let mut command = Command::new(program);
    command
        .arg(options)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let child = {
        let _alone = crate::process::spawning();
        command.spawn().with_context(|| format!("run {program}"))?
    };
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(output.stdout)
}
