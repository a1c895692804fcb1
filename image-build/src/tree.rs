//! The root file system of the image as values: what is at which path, and where it is from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use common::isolate::{capability, seccomp};
use common::pod::{DEFAULT_FILTER, DEFAULT_POD_FILTER};

use crate::{elf, manifest};

/// In the static tree: folders that are empty in the image, which git can't hold, as lines `MODE PATH`.
const FOLDERS: &str = "folders.in";

/// All entrypoints there may be. Which of them must be there is for the manifest and the units to say.
const ENTRYPOINTS: [&str; 16] = [
    "init",
    "enter",
    "stop",
    "gc",
    "pid1",
    "prepare-app",
    "reaper",
    "health",
    "shutdown",
    "app-add",
    "app-start",
    "app-stop",
    "app-rm",
    "manage",
    "attach",
    "iottymux",
];

/// Where an entry is from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The package of that index
    Package(usize),
    /// This project
    Project,
}

/// What an entry is.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    Folder,
    File(Vec<u8>),
    Link(String),
}

/// One path of the image.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) origin: Origin,
}

/// The root file system: entries by their path without a leading slash, folders before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// All entries in the order of their paths.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The size of all files.
    pub(crate) fn size(&self) -> u64 {
        self.entries.values().map(Entry::size).sum()
    }

    /// Whether something is at that path itself, no links followed.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// What is at that path itself, no links followed.
    pub(crate) fn get(&self, path: &str) -> Option<&Kind> {
        self.entries.get(path).map(|entry| &entry.kind)
    }

    /// Adds a file that is executed or mapped by the loader.
    pub(crate) fn insert_program(&mut self, path: &str, data: Vec<u8>, origin: Origin) {
        self.insert(
            path,
            Entry {
                kind: Kind::File(data),
                mode: 0o755,
                origin,
            },
        );
    }

    /// Adds a file that is read.
    pub(crate) fn insert_file(&mut self, path: &str, data: Vec<u8>, origin: Origin) {
        self.insert(
            path,
            Entry {
                kind: Kind::File(data),
                mode: 0o644,
                origin,
            },
        );
    }

    /// Adds a symbolic link.
    pub(crate) fn insert_link(&mut self, path: &str, target: &str) {
        self.insert(
            path,
            Entry {
                kind: Kind::Link(target.to_owned()),
                mode: 0o777,
                origin: Origin::Project,
            },
        );
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        for parent in parents {
            self.entries
                .entry(parent.to_owned())
                .or_insert_with(|| folder(0o755));
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds the entrypoints that are in `folder`.
    pub(crate) fn add_entrypoints(&mut self, folder: &Path) -> Result<()> {
        for name in ENTRYPOINTS {
            let path = folder.join(name);
            let data = match fs::read(&path) {
                Ok(data) => data,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("read {}", path.display()));
                }
            };
            let data = elf::stripped(data).with_context(|| format!("strip {}", path.display()))?;
            let facts = elf::facts(&data).with_context(|| format!("examine {}", path.display()))?;
            if facts.interpreter.is_some() || !facts.needed.is_empty() {
                bail!("add {}: it is not statically linked", path.display());
            }
            self.insert_program(name, data, Origin::Project);
        }
        Ok(())
    }

    /// Adds the system call filters of apps that ask for no other and of their pods, compiled: what is known when the
    /// image is made is done then.
    pub(crate) fn add_filters(&mut self) -> Result<()> {
        let filter = seccomp::compile(None, &capability::DEFAULT.into())
            .context("compile the default filter")?;
        self.insert_file(DEFAULT_FILTER, filter.program, Origin::Project);
        let pods = capability::of_pod(&capability::DEFAULT.into());
        let filter = seccomp::compile_pod(&pods);
        self.insert_file(DEFAULT_POD_FILTER, filter, Origin::Project);
        Ok(())
    }

    /// Adds the static tree.
    pub(crate) fn add_static(&mut self, root: &Path) -> Result<()> {
        self.add_folders(&root.join(FOLDERS))?;
        for (name, path) in children(root)? {
            if name != FOLDERS && name != manifest::TEMPLATE {
                self.add_path(&name, &path)?;
            }
        }
        Ok(())
    }

    fn add_path(&mut self, at: &str, source: &Path) -> Result<()> {
        let metadata = source
            .symlink_metadata()
            .with_context(|| format!("examine {}", source.display()))?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(source)
                .with_context(|| format!("read the link {}", source.display()))?;
            let target = target
                .to_str()
                .with_context(|| format!("read the link {}", source.display()))?;
            self.insert_link(at, target);
        } else if kind.is_dir() {
            // Not through `insert` alone: a folder named in the list of folders keeps the mode given there.
            self.entries
                .entry(at.to_owned())
                .or_insert_with(|| folder(0o755));
            for (name, path) in children(source)? {
                self.add_path(&format!("{at}/{name}"), &path)?;
            }
        } else if kind.is_file() {
            let data = fs::read(source).with_context(|| format!("read {}", source.display()))?;
            // Only the executable bit counts, so that the umask of a checkout does not change the image.
            let mode = if metadata.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            self.insert(
                at,
                Entry {
                    kind: Kind::File(data),
                    mode,
                    origin: Origin::Project,
                },
            );
        } else {
            bail!(
                "add {}: neither a file, a folder nor a link",
                source.display()
            );
        }
        Ok(())
    }

    fn add_folders(&mut self, list: &Path) -> Result<()> {
        let text = fs::read_to_string(list).with_context(|| format!("read {}", list.display()))?;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (mode, path) = line
                .split_once(' ')
                .and_then(|(mode, path)| Some((u32::from_str_radix(mode, 8).ok()?, path.trim())))
                .with_context(|| {
                    format!("read {}: {line:?} is not a mode and a path", list.display())
                })?;
            self.insert(path, folder(mode));
        }
        Ok(())
    }
}

impl Entry {
    /// The size of a file, 0 for the others.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(data) => data.len() as u64,
            Kind::Folder | Kind::Link(_) => 0,
        }
    }
}

fn folder(mode: u32) -> Entry {
    Entry {
        kind: Kind::Folder,
        mode,
        origin: Origin::Project,
    }
}

fn children(folder: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        let name = entry.file_name().to_str().map(str::to_owned);
        found.push((
            name.with_context(|| format!("read the name of {}", entry.path().display()))?,
            entry.path(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
