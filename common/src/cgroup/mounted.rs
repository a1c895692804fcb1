//! The hierarchies among the mounts.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result};
use procfs::ProcessCGroup;
use procfs::process::MountInfo;

use super::Hierarchy;

/// The hierarchies of a process's cgroups, of each the first mount in a mountinfo (proc_pid_mountinfo(5)).
///
/// It is read no further than to the last of them. The kernel makes the lines as they are read; those of hierarchies, which
/// are mounted as a host starts, come early, and the roots of apps, of which there may be hundreds, after them.
pub(super) fn hierarchies(
    mountinfo: impl BufRead,
    cgroups: &[ProcessCGroup],
) -> Result<Vec<Hierarchy>> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut lines = mountinfo.split(b'\n');
    while hierarchies.len() < cgroups.len() {
        let Some(line) = lines.next() else { break };
        let Some(mount) = cgroup_mount(&line?)? else {
            continue;
        };
        let controllers = controllers(&mount, cgroups);
        let mut of_process = cgroups.iter().filter(|c| match controllers.first() {
            None => c.hierarchy == 0,
            Some(first) => c.controllers.contains(first),
        });
        let known = hierarchies.iter().any(|h| h.controllers == controllers);
        if let (Some(cgroup), false) = (of_process.next(), known) {
            hierarchies.push(Hierarchy {
                mount_point: mount.mount_point,
                mounted: mount.root.into(),
                controllers,
                own: PathBuf::from(&cgroup.pathname),
            });
        }
    }
    Ok(hierarchies)
}

/// The mount in a line when it is one of a hierarchy. Lines of others may have any bytes.
fn cgroup_mount(line: &[u8]) -> Result<Option<MountInfo>> {
    // Spaces in a field are escaped, so this comes before the type and nowhere else.
    const BEFORE_TYPE: &[u8] = b" - cgroup";
    let mut parts = line.windows(BEFORE_TYPE.len());
    if !parts.any(|part| part == BEFORE_TYPE) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(line);
    let mount = MountInfo::from_line(&text).with_context(|| format!("{text:?}"))?;
    let is_cgroup = matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2");
    Ok(is_cgroup.then_some(mount))
}

/// The controllers of a mounted hierarchy.
fn controllers(mount: &MountInfo, cgroups: &[ProcessCGroup]) -> Vec<String> {
    if mount.fs_type == "cgroup2" {
        return Vec::new();
    }
    // The options of a v1 mount are its controllers, among a few others.
    let known = |option: &&String| cgroups.iter().any(|c| c.controllers.contains(option));
    let mut named: Vec<_> = mount.super_options.keys().filter(known).cloned().collect();
    named.sort();
    if let Some(Some(name)) = mount.super_options.get("name") {
        named.push(format!("name={name}"));
    }
    named
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// What must not be read.
    struct Beyond;

    impl Read for Beyond {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("read too far"))
        }
    }

    const MOUNTS: &[u8] = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n\
        28 27 0:25 / /mnt/\xff\\040-\\040cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpuacct,cpu\n\
        33 31 0:29 / /mnt/cpu rw - cgroup cgroup rw,cpuacct,cpu\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn cgroup(hierarchy: u32, controllers: &[&str]) -> ProcessCGroup {
        ProcessCGroup {
            hierarchy,
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            pathname: format!("/{hierarchy}"),
        }
    }

    fn found(mounts: impl Read, cgroups: &[ProcessCGroup]) -> Result<Vec<(PathBuf, PathBuf)>> {
        let found = hierarchies(BufReader::with_capacity(1, mounts), cgroups)?;
        Ok(found.into_iter().map(|h| (h.mount_point, h.own)).collect())
    }

    #[test]
    fn what_comes_after_the_last_hierarchy_is_not_read() {
        let all = [
            cgroup(2, &["cpu", "cpuacct"]),
            cgroup(1, &["name=systemd"]),
            cgroup(0, &[]),
        ];
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", "/2"),
            ("/sys/fs/cgroup/systemd", "/1"),
            ("/sys/fs/cgroup/unified", "/0"),
        ];
        let expected = expected.map(|(at, own)| (PathBuf::from(at), PathBuf::from(own)));
        assert_eq!(found(MOUNTS.chain(Beyond), &all).unwrap(), expected);
        let more = [&all[..], &[cgroup(3, &["memory"])]].concat();
        assert_eq!(found(MOUNTS, &more).unwrap(), expected);
        assert!(found(MOUNTS.chain(Beyond), &more).is_err());
    }
}
