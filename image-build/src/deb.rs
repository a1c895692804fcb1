//! The files of Debian packages, in memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::apt::Package;

/// A file or link of a package.
#[derive(Debug)]
pub(crate) enum Node {
    File(Vec<u8>),
    Link(String),
}

/// All files of all packages by their path in a root with merged `/usr`, with the index of the package.
pub(crate) type Contents = BTreeMap<String, (usize, Node)>;

/// Reads the packages.
pub(crate) fn unpack(packages: &[Package]) -> Result<Contents> {
    let mut contents = Contents::new();
    for (index, package) in packages.iter().enumerate() {
        read(index, package, &mut contents)
            .with_context(|| format!("unpack {}", package.file.display()))?;
    }
    Ok(contents)
}

fn read(index: usize, package: &Package, contents: &mut Contents) -> Result<()> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&package.file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run dpkg-deb")?;
    let stdout = child.stdout.take().context("take the output of dpkg-deb")?;
    let mut archive = tar::Archive::new(stdout);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged_usr(&entry.path()?.to_string_lossy());
        let node = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let mut data = Vec::with_capacity(usize::try_from(entry.size())?);
                entry
                    .read_to_end(&mut data)
                    .with_context(|| format!("read {path}"))?;
                Node::File(data)
            }
            tar::EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .with_context(|| format!("read the link {path}"))?;
                Node::Link(target.to_string_lossy().into_owned())
            }
            _ => continue,
        };
        contents.insert(path, (index, node));
    }
    // The last blocks of padding are left unread; without draining them dpkg-deb dies of a broken pipe.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    let status = child.wait().context("wait for dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb: {status}");
    Ok(())
}

/// Where a package's path is in a root whose `/bin`, `/sbin` and `/lib*` are links into `/usr`.
fn merged_usr(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    match path.split('/').next() {
        Some("bin" | "sbin" | "lib" | "lib64") => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::merged_usr;

    #[test]
    fn old_places_move_below_usr() {
        assert_eq!(
            merged_usr("./lib/systemd/systemd"),
            "usr/lib/systemd/systemd"
        );
        assert_eq!(merged_usr("./lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(merged_usr("./usr/bin/x"), "usr/bin/x");
        assert_eq!(merged_usr("./library/x"), "library/x");
    }
}
