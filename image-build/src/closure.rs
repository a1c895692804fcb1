//! What of the Debian packages goes into the image: the programs that a pod runs, and the libraries these need.

use anyhow::{Context, Result, bail};

use crate::deb::{Contents, Node};
use crate::elf;
use crate::tree::{Origin, Tree};

/// The programs; `journalctl` is for stage0, on the host. What PID 1 becomes at the end of the pod, `systemd-shutdown`, is one of ours.
const PROGRAMS: [&str; 4] = [
    "usr/bin/journalctl",
    "usr/bin/systemd-nspawn",
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-journald",
];

/// What lies elsewhere in the image than in its package: under systemd's own name nspawn finds our `pid1`, which goes
/// first.
const MOVED: [(&str, &str); 1] = [("usr/lib/systemd/systemd", "usr/lib/stage1/systemd")];

/// The packages of the programs and of all libraries that these need, directly or through another.
const PACKAGES: [&str; 24] = [
    "libacl1",
    "libapparmor1",
    "libaudit1",
    "libblkid1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libgcrypt20",
    "libgpg-error0",
    "libip4tc2",
    "libkmod2",
    "liblz4-1",
    "liblzma5",
    "libmount1",
    "libpam0g",
    "libpcre2-8-0",
    "libseccomp2",
    "libselinux1",
    "libssl3",
    "libsystemd-shared",
    "libzstd1",
    "systemd",
    "systemd-container",
];

/// The package of network plugins, for images that have them.
const PLUGIN_PACKAGE: &str = "containernetworking-plugins";

/// The plugins that such images have: what the image's own networks need, and what most others are made of. They run on the
/// host, with its loader and C library.
const PLUGINS: [&str; 10] = [
    "usr/lib/cni/bandwidth",
    "usr/lib/cni/bridge",
    "usr/lib/cni/firewall",
    "usr/lib/cni/host-local",
    "usr/lib/cni/loopback",
    "usr/lib/cni/macvlan",
    "usr/lib/cni/portmap",
    "usr/lib/cni/ptp",
    "usr/lib/cni/static",
    "usr/lib/cni/tuning",
];

/// Where the loader finds libraries: its own default folder, and the one in the `RUNPATH` of systemd's programs.
const LIBRARY_FOLDERS: [&str; 2] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
];

/// How many links in a row are followed before they are taken for a loop.
const MAX_LINKS: usize = 8;

/// What an image has of Debian's packages.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    /// Network plugins, too.
    pub(crate) plugins: bool,
}

impl Choice {
    /// The names of the packages to fetch.
    pub(crate) fn packages(self) -> Vec<&'static str> {
        let plugins = self.plugins.then_some(PLUGIN_PACKAGE);
        PACKAGES.into_iter().chain(plugins).collect()
    }

    fn programs(self) -> Vec<String> {
        let plugins = PLUGINS.iter().filter(|_| self.plugins);
        PROGRAMS
            .iter()
            .chain(plugins)
            .map(|&program| program.to_owned())
            .collect()
    }
}

/// The size of the network plugins in a tree.
pub(crate) fn plugins_size(tree: &Tree) -> u64 {
    let plugins = tree.entries().filter(|(path, _)| PLUGINS.contains(path));
    plugins.map(|(_, entry)| entry.size()).sum()
}

/// Adds the programs, their libraries and the licence texts of their packages to the tree.
pub(crate) fn add(tree: &mut Tree, contents: &Contents, choice: Choice) -> Result<()> {
    let packages = choice.packages();
    let mut wanted = choice.programs();
    let mut used = vec![false; packages.len()];
    while let Some(path) = wanted.pop() {
        let moved = MOVED.iter().find(|(from, _)| *from == path);
        let place = moved.map_or(path.as_str(), |(_, to)| *to);
        if tree.contains(place) {
            continue;
        }
        let (package, data) = resolve(contents, &path)?;
        let facts = elf::facts(data).with_context(|| format!("examine {path}"))?;
        for library in facts.needed {
            wanted.push(
                find_library(contents, &library)
                    .with_context(|| format!("find a library of {path}"))?,
            );
        }
        used[package] = true;
        tree.insert_program(
            place,
            elf::stripped(data.to_vec())?,
            Origin::Package(package),
        );
    }
    add_licences(tree, contents, &packages, &used)
}

/// The texts under which what is in the image may be passed on.
fn add_licences(
    tree: &mut Tree,
    contents: &Contents,
    packages: &[&str],
    used: &[bool],
) -> Result<()> {
    for (index, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        let path = format!("usr/share/doc/{}/copyright", packages[index]);
        let (_, data) = resolve(contents, &path)?;
        tree.insert_file(&path, data.to_vec(), Origin::Package(index));
    }
    Ok(())
}

fn find_library(contents: &Contents, name: &str) -> Result<String> {
    let paths = LIBRARY_FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{name}"));
    match paths.into_iter().find(|path| contents.contains_key(path)) {
        Some(path) => Ok(path),
        None => bail!("no package of the list has {name}"),
    }
}

/// The package and content of a file, through links: the image holds each library under the name that is looked for.
fn resolve<'c>(contents: &'c Contents, path: &str) -> Result<(usize, &'c [u8])> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        match contents.get(&at) {
            Some((package, Node::File(data))) => return Ok((*package, data)),
            Some((_, Node::Link(target))) => at = joined(&at, target),
            None => bail!("find {path}: no package of the list has {at}"),
        }
    }
    bail!("find {path}: too many links")
}

/// The path that a link's target means. Packages link within one folder or up to a sibling.
fn joined(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(nodes: &[(&str, Node)]) -> Contents {
        let copy = |node: &Node| match node {
            Node::File(data) => Node::File(data.clone()),
            Node::Link(target) => Node::Link(target.clone()),
        };
        nodes
            .iter()
            .map(|(path, node)| ((*path).to_owned(), (0, copy(node))))
            .collect()
    }

    #[test]
    fn links_are_followed_within_the_packages() {
        let contents = contents(&[
            ("usr/lib/a/liba.so.1", Node::Link("liba.so.1.2".into())),
            ("usr/lib/a/liba.so.1.2", Node::Link("../b/liba.so".into())),
            ("usr/lib/b/liba.so", Node::File(b"elf".to_vec())),
        ]);
        assert_eq!(
            resolve(&contents, "usr/lib/a/liba.so.1").unwrap(),
            (0, b"elf".as_slice())
        );
    }

    #[test]
    fn a_loop_of_links_ends() {
        let contents = contents(&[
            ("a", Node::Link("b".into())),
            ("b", Node::Link("/a".into())),
        ]);
        assert_eq!(
            resolve(&contents, "a").unwrap_err().to_string(),
            "find a: too many links"
        );
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = find_library(&Contents::new(), "libx.so.1").unwrap_err();
        assert_eq!(error.to_string(), "no package of the list has libx.so.1");
    }
}
