//! Files that others see whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `content` beside `file` and renames it into its place.
pub(crate) fn write(file: &Path, content: &[u8]) -> Result<()> {
    let mut beside = OsString::from(file);
    beside.push(format!(".{}", std::process::id()));
    fs::write(&beside, content)
        .and_then(|()| fs::rename(&beside, file))
        .inspect_err(|_| {
            // What is left of a failed write; that it cannot be removed is told by the error anyway.
            let _ = fs::remove_file(&beside);
        })
        .with_context(|| format!("write {}", file.display()))
}
