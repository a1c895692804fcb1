//! Expected files: comparing, and writing them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Content by relative path.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// `tests/golden`, where the cases are.
pub(crate) fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of all cases, in order; of one with a word in its name when `CASE` says so.
pub(crate) fn cases() -> Vec<PathBuf> {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let entries = fs::read_dir(dir().join("plan")).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir() && path.to_str().unwrap().contains(&wanted));
    cases.sort();
    assert!(!cases.is_empty(), "no case is named {wanted:?}");
    cases
}

/// Makes `dir` hold `files` and nothing else.
pub(crate) fn write(dir: &Path, files: &Files) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn read(dir: &Path, below: &str, files: &mut Files) {
    let Ok(entries) = fs::read_dir(dir.join(below)) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let name = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().unwrap().is_dir() {
            read(dir, &name, files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// What is to be said about files that are not as expected in `dir`.
pub(crate) fn differences(dir: &Path, found: &Files) -> Vec<String> {
    let mut expected = Files::new();
    read(dir, "", &mut expected);
    let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let different = names
        .into_iter()
        .filter(|name| expected.get(*name) != found.get(*name));
    different
        .map(|name| {
            let text = |files: &Files| {
                files
                    .get(name)
                    .map(|content| String::from_utf8_lossy(content).into_owned())
            };
            let lines = changed_lines(text(&expected), text(found));
            format!("{}/{name}\n{lines}", dir.display())
        })
        .collect()
}

/// The lines that differ, as diff(1) has them.
fn changed_lines(expected: Option<String>, found: Option<String>) -> String {
    let (Some(old), Some(new)) = (&expected, &found) else {
        let one = if expected.is_some() {
            "only expected"
        } else {
            "only found"
        };
        return format!("    {one}:\n{}", expected.or(found).unwrap_or_default());
    };
    let (old, new): (Vec<_>, Vec<_>) = (old.split('\n').collect(), new.split('\n').collect());
    let common = common_after(&old, &new);
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            out += &format!("    - {}\n", old[i]);
            i += 1;
        } else {
            out += &format!("    + {}\n", new[j]);
            j += 1;
        }
    }
    out
}

/// For each two places how many lines the rests have in common, in order.
fn common_after(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    common
}
