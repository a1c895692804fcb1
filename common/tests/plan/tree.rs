//! A directory tree as values, and what has changed between two of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::golden::Files;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Entries by path from the tree's root.
pub(crate) type Tree = BTreeMap<String, Entry>;

pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    read_below(root, root, &mut tree);
    tree
}

fn read_below(root: &Path, dir: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let metadata = entry.metadata().unwrap();
        let kind = if metadata.is_dir() {
            read_below(root, &path, tree);
            Kind::Directory
        } else if metadata.is_symlink() {
            Kind::Link(fs::read_link(&path).unwrap())
        } else {
            Kind::File(fs::read(&path).unwrap())
        };
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
        tree.insert(name, Entry { kind, mode, owner });
    }
}

/// Lists what is new, changed or gone: kind, mode and path, owners other than the caller's.
pub(crate) fn changes(before: &Tree, after: &Tree) -> String {
    let own = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let mut out = String::new();
    for (path, entry) in after
        .iter()
        .filter(|(path, entry)| before.get(*path) != Some(entry))
    {
        let mode = entry.mode;
        match &entry.kind {
            Kind::Directory => write!(out, "dir  {mode:04o} {path}").unwrap(),
            Kind::File(_) => write!(out, "file {mode:04o} {path}").unwrap(),
            Kind::Link(target) => write!(out, "link      {path} -> {}", target.display()).unwrap(),
        }
        if entry.owner != own {
            write!(out, " owner {}:{}", entry.owner.0, entry.owner.1).unwrap();
        }
        out.push('\n');
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        writeln!(out, "gone      {path}").unwrap();
    }
    out
}

/// The files that are new or changed, with their content, below `prefix`. Text only: the bytes of a compiled system call
/// filter depend on the version of libseccomp.
pub(crate) fn new_content(before: &Tree, after: &Tree, prefix: &str) -> Files {
    let changed = after
        .iter()
        .filter(|(path, entry)| before.get(*path) != Some(entry));
    let files = changed.filter_map(|(path, entry)| match &entry.kind {
        Kind::File(content) if std::str::from_utf8(content).is_ok() => {
            Some((format!("{prefix}/{path}"), content.clone()))
        }
        _ => None,
    });
    files.collect()
}
