//! Debian packages, by apt: it knows the archives, their signed lists and the candidate version of each package.
//!
//! Packages are cached under the SHA256 that apt's lists give, so a changed candidate is another file, and a file
//! that does not have its name's hash is never used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{command, progress};

/// A package in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    pub(crate) file: PathBuf,
}

/// What apt would download for a package.
#[derive(Debug, PartialEq)]
struct Candidate {
    file_name: String,
    sha256: String,
}

/// Brings the candidate versions of the named packages into `cache`, and gives them in the order of the names.
///
/// Old lists name versions that the archive has no longer, or lack the one that is installed: when apt can't follow
/// its lists they are fetched anew, once.
pub(crate) fn fetch(names: &[&str], cache: &Path) -> Result<Vec<Package>> {
    let error = match fetch_listed(names, cache) {
        Err(error) => error,
        packages => return packages,
    };
    progress(&format!("fetching apt's lists anew, because: {error:#}"));
    command::output(Command::new("apt-get").args(["-q", "update"]))
        .with_context(|| format!("{error:#}; fetch apt's lists anew"))?;
    fetch_listed(names, cache)
}

fn fetch_listed(names: &[&str], cache: &Path) -> Result<Vec<Package>> {
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let candidates = candidates(names)?;
    let mut missing = BTreeMap::new();
    for (name, candidate) in &candidates {
        let cached = cache.join(format!("{}.deb", candidate.sha256));
        if !cached.exists() || hash(&cached)? != candidate.sha256 {
            missing.insert(name.as_str(), candidate);
        }
    }
    if !missing.is_empty() {
        progress(&format!(
            "downloading {} of {} packages",
            missing.len(),
            names.len()
        ));
        download(&missing, cache)?;
    }
    names
        .iter()
        .map(|name| package(name, &candidates[*name], cache))
        .collect()
}

fn candidates(names: &[&str]) -> Result<BTreeMap<String, Candidate>> {
    let listed = command::output(
        Command::new("apt-get")
            .args(["download", "--print-uris"])
            .args(names),
    )
    .context("ask apt for the packages")?;
    let listed = String::from_utf8_lossy(&listed);
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let (name, candidate) =
            parse_uri(line).with_context(|| format!("understand apt's line {line:?}"))?;
        found.insert(name, candidate);
    }
    for name in names {
        ensure!(found.contains_key(*name), "apt offers no package {name}");
    }
    Ok(found)
}

/// Reads `'URI' NAME_VERSION_ARCH.deb SIZE SHA256:HASH`.
fn parse_uri(line: &str) -> Result<(String, Candidate)> {
    let mut fields = line.rsplitn(4, ' ');
    let (hash, _size, file_name) = (fields.next(), fields.next(), fields.next());
    let (Some(hash), Some(file_name)) = (hash, file_name) else {
        bail!("too few fields")
    };
    let sha256 = hash.strip_prefix("SHA256:").context("no SHA256")?;
    let (name, _) = file_name.split_once('_').context("no package name")?;
    Ok((
        name.to_owned(),
        Candidate {
            file_name: file_name.to_owned(),
            sha256: sha256.to_owned(),
        },
    ))
}

/// Downloads into a folder inside the cache, so that taking a file over is a rename.
fn download(missing: &BTreeMap<&str, &Candidate>, cache: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(cache)
        .with_context(|| format!("create a folder in {}", cache.display()))?;
    // apt-get would drop root for a user that can't write here, and warn about it.
    let sandbox = ["-o", "APT::Sandbox::User=root", "-q", "download"];
    command::output(
        Command::new("apt-get")
            .args(sandbox)
            .args(missing.keys())
            .current_dir(folder.path()),
    )?;
    let mut by_hash = BTreeMap::new();
    for entry in folder
        .path()
        .read_dir()
        .with_context(|| format!("read {}", folder.path().display()))?
    {
        let path = entry?.path();
        by_hash.insert(hash(&path)?, path);
    }
    for candidate in missing.values() {
        let Some(path) = by_hash.get(&candidate.sha256) else {
            bail!(
                "download {}: no file with SHA256 {} came",
                candidate.file_name,
                candidate.sha256
            );
        };
        let cached = cache.join(format!("{}.deb", candidate.sha256));
        fs::rename(path, &cached)
            .with_context(|| format!("move {} to {}", path.display(), cached.display()))?;
    }
    Ok(())
}

fn package(name: &str, candidate: &Candidate, cache: &Path) -> Result<Package> {
    let file = cache.join(format!("{}.deb", candidate.sha256));
    // The file name in apt's list leaves the epoch out.
    let version = command::output(
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(&file)
            .arg("Version"),
    )?;
    let version = String::from_utf8_lossy(&version).trim().to_owned();
    Ok(Package {
        name: name.to_owned(),
        version,
        sha256: candidate.sha256.clone(),
        file,
    })
}

fn hash(path: &Path) -> Result<String> {
    let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_apt_lines() {
        let (name, candidate) =
            parse_uri("'scheme://host/pool/l/libc6_2.36-9%2bdeb12u14_amd64.deb' libc6_2.36-9_amd64.deb 12 SHA256:ab")
                .unwrap();
        assert_eq!(name, "libc6");
        assert_eq!(
            candidate,
            Candidate {
                file_name: "libc6_2.36-9_amd64.deb".into(),
                sha256: "ab".into()
            }
        );
    }

    #[test]
    fn refuses_lines_without_a_sha256() {
        assert!(parse_uri("'u' a_1_amd64.deb 12 MD5Sum:ab").is_err());
        assert!(parse_uri("E: no such package").is_err());
    }

    #[test]
    fn a_damaged_file_does_not_count_as_cached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, "abc").unwrap();
        assert_eq!(
            hash(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
