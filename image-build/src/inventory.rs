//! What is in the image and where it is from: for `--list`, and for people who look into the image.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::apt::Package;
use crate::tree::{Kind, Origin, Tree};

/// The path of the list of packages in the image.
const PATH: &str = "usr/share/stage1/packages.json";

/// A file of the image.
#[derive(Debug, Serialize)]
pub(crate) struct File<'a> {
    path: &'a str,
    size: u64,
    package: &'a str,
    version: &'a str,
}

/// A package of which something is in the image.
#[derive(Debug, Serialize)]
struct Used<'a> {
    name: &'a str,
    version: &'a str,
    sha256: &'a str,
}

/// Adds the list of packages to the tree.
pub(crate) fn add(tree: &mut Tree, packages: &[Package]) -> Result<()> {
    let mut used = vec![false; packages.len()];
    for (_, entry) in tree.entries() {
        if let Origin::Package(index) = entry.origin {
            used[index] = true;
        }
    }
    let used: Vec<Used<'_>> = packages
        .iter()
        .zip(used)
        .filter(|(_, used)| *used)
        .map(|(package, _)| Used {
            name: &package.name,
            version: &package.version,
            sha256: &package.sha256,
        })
        .collect();
    tree.insert_file(PATH, lines(&used)?.into_bytes(), Origin::Project);
    Ok(())
}

/// All files of the tree.
pub(crate) fn files<'a>(tree: &'a Tree, packages: &'a [Package]) -> Vec<File<'a>> {
    tree.entries()
        .filter(|(_, entry)| matches!(entry.kind, Kind::File(_)))
        .map(|(path, entry)| {
            let (package, version) = match entry.origin {
                Origin::Package(index) => (
                    packages[index].name.as_str(),
                    packages[index].version.as_str(),
                ),
                Origin::Project => ("stage1", env!("CARGO_PKG_VERSION")),
            };
            File {
                path,
                size: entry.size(),
                package,
                version,
            }
        })
        .collect()
}

/// A table of the files.
pub(crate) fn text(files: &[File<'_>]) -> String {
    let width = |of: fn(&File<'_>) -> usize| files.iter().map(of).max().unwrap_or(0);
    let (paths, packages) = (
        width(|file| file.path.len()),
        width(|file| file.package.len()),
    );
    let rows = files.iter().map(
        |File {
             path,
             size,
             package,
             version,
         }| { format!("{path:paths$}  {size:>8}  {package:packages$}  {version}\n") },
    );
    rows.collect()
}

/// The files as JSON.
pub(crate) fn json(files: &[File<'_>]) -> Result<String> {
    lines(files)
}

fn lines<T: Serialize>(values: &[T]) -> Result<String> {
    let mut text = serde_json::to_string_pretty(values).context("write the list")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1:2".into(),
            sha256: "ab".into(),
            file: "x.deb".into(),
        }
    }

    #[test]
    fn only_packages_in_use_are_listed() {
        let packages = [package("used"), package("unused")];
        let mut tree = Tree::default();
        tree.insert_program("usr/bin/a", vec![0; 3], Origin::Package(0));
        add(&mut tree, &packages).unwrap();
        let Some(Kind::File(list)) = tree.get(PATH) else {
            panic!("no list")
        };
        let list = String::from_utf8(list.clone()).unwrap();
        assert!(
            list.contains("\"used\"") && !list.contains("unused"),
            "{list}"
        );

        let files = files(&tree, &packages);
        assert_eq!(text(&files[..1]), "usr/bin/a         3  used  1:2\n");
        assert!(json(&files).unwrap().contains("\"path\": \"usr/bin/a\""));
    }
}
