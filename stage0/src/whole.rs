//! Files that others see whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `content` beside `file` and renames it into its place.
pub(crate) fn write(file: &Path, content: &[u8]) -> Result<()> {
    write_mode(file, content, 0o666)
}

/// The same for a file that nobody else may read.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> Result<()> {
    write_mode(file, content, 0o600)
}

fn write_mode(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut beside = OsString::from(file);
    beside.push(format!(".{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, file))
        .inspect_err(|_| {
            // What is left of a failed write; that it cannot be removed is told by the error anyway.
            let _ = fs::remove_file(&beside);
        })
        .with_context(|| format!("write {}", file.display()))
}
