//! `pathWhitelist`: what an image keeps of its own files and those of its dependencies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::root::Root;
use rustix::fs::{FileType, OFlags};

use super::delete;
use super::writer::TreeWriter;
use crate::image::entry;

/// Removes from the tree at `root` all but the listed paths and the directories above them. A listed
/// directory does not keep what is in it; one that is listed with a slash at its end is made if need be.
pub(super) fn keep(root: &Path, listed: &[String], writer: &mut TreeWriter) -> Result<()> {
    let mut kept = BTreeSet::new();
    for text in listed {
        let path = entry::path(text.as_bytes()).context("pathWhitelist")?;
        kept.extend(path.ancestors().map(Path::to_owned));
        if text.ends_with('/') {
            writer
                .ensure_directory(&path)
                .with_context(|| format!("make {path:?}"))?;
        }
    }
    let tree = Root::open(root).with_context(|| format!("open {}", root.display()))?;
    let mut left = vec![PathBuf::from(".")];
    while let Some(directory) = left.pop() {
        let context = || format!("prune {directory:?}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = tree.open_at(&directory, flags).with_context(context)?;
        for (name, kind) in delete::names(&opened).with_context(context)? {
            let path = directory.join(&name);
            let inside = path.strip_prefix(".").unwrap_or(&path);
            if !kept.contains(inside) {
                delete::all(&opened, &name).with_context(context)?;
            } else if kind == FileType::Directory {
                left.push(path);
            }
        }
    }
    Ok(())
}
