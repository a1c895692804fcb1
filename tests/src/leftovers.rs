//! What a pod may leave on the host: mounts, cgroups, processes, network namespaces, nspawn's folders. Each is found by
//! the pod's UUID or by the test's own directory in its name.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::BOUND;
use crate::wait;

/// Names that tell whose a thing is: UUIDs with and without dashes and as systemd writes them in the name of a pod's scope,
/// directories.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<String>);

impl Marks {
    /// Marks of pods and of the directories they live in.
    pub fn new<'a>(uuids: impl IntoIterator<Item = &'a str>, dirs: &[&Path]) -> Self {
        let uuids = uuids
            .into_iter()
            .flat_map(|uuid| ["-", "", r"\x2d"].map(|dash| uuid.replace('-', dash)));
        Self(
            uuids
                .chain(dirs.iter().map(|dir| dir.display().to_string()))
                .collect(),
        )
    }

    /// Whether the text has one of them in it.
    pub fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|mark| text.contains(mark))
    }

    /// Everything there is, one line each.
    pub fn found(&self) -> Vec<String> {
        let mounts = self
            .mounts()
            .into_iter()
            .map(|path| format!("mount {}", path.display()));
        let cgroups = self
            .cgroups()
            .into_iter()
            .map(|path| format!("cgroup {}", path.display()));
        let processes = self
            .processes()
            .into_iter()
            .map(|(pid, name)| format!("process {} {name}", pid.as_raw_nonzero()));
        let others = self
            .files()
            .into_iter()
            .map(|path| format!("file {}", path.display()));
        mounts
            .chain(cgroups)
            .chain(processes)
            .chain(others)
            .collect()
    }

    /// Takes all of it away: processes, mounts, cgroups, files.
    pub fn clear(&self) {
        self.kill();
        for mount in self.mounts() {
            let _ = unmount(&mount, UnmountFlags::DETACH);
        }
        for cgroup in self.cgroups() {
            let _ = fs::remove_dir(cgroup);
        }
        for file in self.files() {
            let _ = fs::remove_dir_all(&file).or_else(|_| fs::remove_file(&file));
        }
    }

    fn kill(&self) {
        // Before anything is killed: an id can be used again as soon as its process is gone.
        let pidfds: Vec<_> = self
            .processes()
            .iter()
            .filter_map(|(pid, _)| pidfd_open(*pid, PidfdFlags::empty()).ok())
            .collect();
        for pidfd in &pidfds {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        for cgroup in self.cgroups() {
            // Only the unified hierarchy has the file; it reaches those that were forked meanwhile.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        let end = Some(Instant::now() + BOUND);
        for pidfd in &pidfds {
            let _ = wait::readable(pidfd.as_fd(), end);
        }
    }

    /// Mount points in this mount namespace, the last made first.
    fn mounts(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let marked = mounts.lines().filter(|line| self.are_in(line));
        marked
            .filter_map(|line| line.split(' ').nth(4))
            .map(PathBuf::from)
            .rev()
            .collect()
    }

    /// Cgroup directories in all hierarchies, the deepest first.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_dirs(Path::new("/sys/fs/cgroup"), 8, &mut found);
        found.retain(|path| self.are_in(&path.to_string_lossy()));
        found.reverse();
        found
    }

    /// Processes in a marked cgroup, with a mark on their command line, or whose program or directories are in a marked
    /// one; but not this one.
    ///
    /// Members are asked of the cgroups: /proc/PID/cgroup of every process would wait for the kernel's one cgroup lock
    /// a hundred times.
    fn processes(&self) -> Vec<(Pid, String)> {
        let members = self
            .cgroups()
            .into_iter()
            .filter_map(|cgroup| fs::read_to_string(cgroup.join("cgroup.procs")).ok())
            .collect::<String>();
        let members: BTreeSet<i32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        entries
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_string_lossy().parse().ok()?;
                let words = fs::read(entry.path().join("cmdline")).ok()?;
                let words = String::from_utf8_lossy(&words).replace('\0', " ");
                let inside = ["exe", "cwd", "root"].into_iter().any(|link| {
                    let target = fs::read_link(entry.path().join(link));
                    target.is_ok_and(|target| self.are_in(&target.to_string_lossy()))
                });
                if pid == own || !(members.contains(&pid) || self.are_in(&words) || inside) {
                    return None;
                }
                // A dead process that waits for its parent, which for orphans is the host's init, is nothing of ours.
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                let dead = stat.rsplit_once(") ")?.1.starts_with('Z');
                (!dead).then_some((Pid::from_raw(pid)?, words))
            })
            .collect()
    }

    /// nspawn's and the network's own entries.
    fn files(&self) -> Vec<PathBuf> {
        let dirs = [
            "/run/systemd/nspawn",
            "/run/systemd/nspawn/propagate",
            "/run/systemd/nspawn/locks",
        ];
        let dirs = dirs.into_iter().chain([
            "/run/systemd/machines",
            "/run/netns",
            "/var/run/netns",
            "/var/log/journal",
        ]);
        dirs.filter_map(|dir| fs::read_dir(dir).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .filter(|path| self.are_in(&path.to_string_lossy()))
            .collect()
    }
}

fn collect_dirs(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            collect_dirs(&entry.path(), depth - 1, found);
        }
    }
}
