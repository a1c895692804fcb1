//! Whether the image is complete: what the manifest, the units and the loader will look for is there.

use anyhow::{Result, ensure};

use crate::elf;
use crate::manifest::Manifest;
use crate::tree::{Kind, Tree};

/// What systemd-nspawn starts as the pod's first program, and what systemd executes as its last one.
const PID_1: [&str; 2] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-shutdown",
];

/// How many links in a row are followed before they are taken for a loop.
const MAX_LINKS: usize = 8;

/// Fails if the manifest names an entrypoint that is not in the tree.
pub(crate) fn entrypoints(tree: &Tree, manifest: &Manifest) -> Result<()> {
    for path in manifest.entrypoints() {
        ensure!(
            has_file(tree, path),
            "check the image: the manifest names {path}, and there is no such entrypoint"
        );
    }
    Ok(())
}

/// Fails if a unit or a program names a program or loader that is not in the tree.
pub(crate) fn programs(tree: &Tree) -> Result<()> {
    for program in PID_1 {
        ensure!(
            has_file(tree, program),
            "check the image: there is no {program}, which becomes the pod's PID 1"
        );
    }
    for (path, entry) in tree.entries() {
        let Kind::File(data) = &entry.kind else {
            continue;
        };
        if path.ends_with(".service") {
            for program in unit_programs(&String::from_utf8_lossy(data)) {
                ensure!(
                    has_file(tree, program),
                    "check the image: {path} names {program}, and there is no such file"
                );
            }
        }
        if elf::is_elf(data)
            && let Some(loader) = elf::facts(data)?.interpreter
        {
            ensure!(
                has_file(tree, &loader),
                "check the image: {path} needs {loader}, and there is no such file"
            );
        }
    }
    Ok(())
}

/// The programs that a unit runs: the first word of each `Exec…=` line, without systemd's prefix characters.
fn unit_programs(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines()
        .filter(|line| line.starts_with("Exec"))
        .filter_map(|line| {
            let (_, command) = line.split_once('=')?;
            command
                .trim_start_matches(['-', '+', '!', ':', '@'])
                .split_whitespace()
                .next()
        })
}

/// Whether a path leads to a file, through links of the tree in any of its parts.
fn has_file(tree: &Tree, path: &str) -> bool {
    let mut rest: Vec<String> = parts(path);
    let mut at: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(part);
        match tree.get(&at.join("/")) {
            Some(Kind::Link(target)) if links < MAX_LINKS => {
                links += 1;
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                rest.extend(parts(target));
            }
            Some(Kind::File(_)) => return rest.is_empty(),
            Some(Kind::Folder) => {}
            Some(Kind::Link(_)) | None => return false,
        }
    }
    false
}

/// The parts of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.rsplit('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Origin;

    #[test]
    fn programs_of_a_unit() {
        let unit = "[Service]\nExecStart=-/reaper --flag\nExecStopPost=:!/a b\nType=exec\n";
        assert_eq!(unit_programs(unit).collect::<Vec<_>>(), ["/reaper", "/a"]);
    }

    #[test]
    fn paths_lead_through_links() {
        let mut tree = Tree::default();
        tree.insert_program("usr/lib/multi/ld.so", vec![], Origin::Project);
        tree.insert_link("usr/lib64/ld.so", "../lib/multi/ld.so");
        tree.insert_link("lib64", "usr/lib64");
        tree.insert_link("loop", "loop");
        assert!(has_file(&tree, "/lib64/ld.so"));
        assert!(!has_file(&tree, "/lib64/ld.so/x"));
        assert!(!has_file(&tree, "/lib64"));
        assert!(!has_file(&tree, "/loop"));
        assert!(!has_file(&tree, "/none"));
    }
}
