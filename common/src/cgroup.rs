//! The cgroups of a pod: one in each hierarchy that the host has mounted, under the same path in all of them,
//! because the contract has a single `subcgroup` per pod.

mod devices;
mod kill;
mod mounted;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, ErrorKind};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use procfs::process::Process;

use crate::id_range::IdRange;

/// A cgroup hierarchy that the host has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which of its cgroups is mounted there; `/` but inside of containers.
    pub mounted: PathBuf,
    /// Its controllers, `name=systemd` too; empty for the unified hierarchy.
    pub controllers: Vec<String>,
    /// The cgroup of the process, a path from the hierarchy's root.
    pub own: PathBuf,
}

impl Hierarchy {
    /// Whether this is the unified hierarchy (cgroup v2).
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory of the cgroup `path`, a path from the hierarchy's root.
    pub fn dir(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.mounted).unwrap_or(path);
        self.mount_point
            .join(below.strip_prefix("/").unwrap_or(below))
    }

    /// The directory of the cgroup of a unit in the pod at `pod`, if it has one in this hierarchy. nspawn, too, puts
    /// the pod into a cgroup below, but not in a hierarchy that it leaves alone.
    pub fn dir_of_unit(&self, pod: &Path, unit: &str) -> Option<PathBuf> {
        let of_slice = |pod: &Path| self.dir(pod).join(SYSTEM_SLICE).join(unit);
        let places = [of_slice(&pod.join(PAYLOAD)), of_slice(pod)];
        places.into_iter().find(|dir| dir.exists())
    }
}

/// In a v1 hierarchy of a controller the pod is put into a cgroup of this name below its own, which keeps the limits of the
/// pod as a whole: the pod can write to all that it sees, and sees only from the cgroup that it was started in. In the
/// other hierarchies nspawn does the same, under the same name.
pub const PAYLOAD: &str = "payload";

/// The slice in which the pod's systemd has the apps, and what enters one that does not run.
pub const SYSTEM_SLICE: &str = "system.slice";

/// The v1 controllers that systemd uses: in their hierarchies a scope has a cgroup of its own.
pub(crate) const OF_SYSTEMD: [&str; 6] = ["cpu", "cpuacct", "blkio", "memory", DEVICES, "pids"];
pub(crate) const DEVICES: &str = "devices";

/// The controllers of the unified hierarchy that limits are set by.
const LIMITING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// How often a cgroup that is removed at the same time is tried again.
const JOIN_TRIES: u32 = 100;

/// All cgroup hierarchies in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies(pub Vec<Hierarchy>);

impl Hierarchies {
    /// Reads the hierarchies that are mounted from the proc file system at `proc`.
    pub fn read(proc: &Path) -> Result<Self> {
        Hierarchies::of_process(proc, "self")
    }

    /// The same, with the cgroups of another process in the place of this one's.
    pub fn of_process(proc: &Path, process: &str) -> Result<Self> {
        let own = Process::new_with_root(proc.join("self")).context("read /proc/self")?;
        let other = Process::new_with_root(proc.join(process));
        let cgroups = other.and_then(|other| other.cgroups());
        let cgroups = cgroups.with_context(|| format!("read /proc/{process}/cgroup"))?;
        let context = || format!("read {}/self/mountinfo", proc.display());
        let mounts = own.open_relative("mountinfo").with_context(context)?;
        let hierarchies = mounted::hierarchies(BufReader::new(mounts), &cgroups.0);
        Ok(Hierarchies(hierarchies.with_context(context)?))
    }

    /// The hierarchy that systemd keeps its units in: the unified one, or `name=systemd` where that has no controllers of
    /// its own.
    pub fn of_units(&self) -> Option<&Hierarchy> {
        let systemd = self
            .0
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == "name=systemd"));
        systemd.or_else(|| self.0.iter().find(|h| h.is_unified()))
    }

    /// Moves this process into the cgroups that were read.
    pub fn join(&self) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|hierarchy| join(&hierarchy.dir(&hierarchy.own)))
    }

    /// Has the kernel be ready for processes that join cgroups, by joining one of those that this process is in already:
    /// the first to join any after a quiet moment waits for the kernel (10 to 20 ms), and those do not who come meanwhile.
    /// Where it is not allowed they wait.
    pub fn warm_up(&self) {
        if let Some(hierarchy) = self.0.first() {
            let _ = join(&hierarchy.dir(&hierarchy.own));
        }
    }

    /// Moves this process into the cgroups of another one. The other may be moved meanwhile: systemd removes a v1 cgroup
    /// of its own when the last unit that needs the controller is gone, and moves itself out of it before.
    pub fn join_those_of(proc: &Path, process: &str) -> Result<()> {
        despite_removal(|| Hierarchies::of_process(proc, process)?.join())
    }

    /// The v1 hierarchies in which systemd limits a scope, and leaves the cgroup to root. That of `devices` is not among
    /// them: the kernel takes no new policy of a cgroup with others below it (devices.rst), and in a user namespace apps
    /// have none of their own.
    pub fn of_scopes(mut self) -> Self {
        let limits = |c: &String| c != DEVICES && OF_SYSTEMD.contains(&c.as_str());
        self.0.retain(|h| h.controllers.iter().any(limits));
        self
    }

    /// Whether the host has a controller, by its names on v1 and v2. `unified` are those of the unified hierarchy.
    pub fn has_controller(&self, v1: &str, v2: &str, unified: &[String]) -> bool {
        let of_v1 = self.0.iter().any(|h| h.controllers.iter().any(|c| c == v1));
        of_v1 || unified.iter().any(|c| c == v2)
    }

    /// Whether there is the unified hierarchy alone. Beside v1 hierarchies systemd uses no BPF programs on it.
    pub fn is_unified(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(Hierarchy::is_unified)
    }

    /// Makes the cgroup `path` in every hierarchy and moves this process into it. Leaving undoes both. With a user
    /// namespace the pod's root may make cgroups in it.
    ///
    /// All are joined in one go: the first join after a quiet moment waits for the kernel (10 to 20 ms), the ones right
    /// after it do not.
    pub fn enter(self, path: &Path, users: Option<IdRange>) -> Result<Entered> {
        let mut entered = Entered {
            hierarchies: self,
            path: path.to_owned(),
            enabled: Vec::new(),
            kept: false,
        };
        for hierarchy in &entered.hierarchies.0 {
            let inner = inner(hierarchy, path);
            // The host's systemd may remove empty cgroups below a slice of its own.
            despite_removal(|| {
                make(hierarchy, &inner)?;
                // nspawn delegates the others, where it puts the pod into a cgroup below.
                if let (Some(users), true) = (users, inner != path) {
                    delegate(&hierarchy.dir(&inner), users)?;
                }
                join(&hierarchy.dir(&inner))
            })?;
        }
        entered.enable();
        Ok(entered)
    }

    /// The processes in the cgroup `path` and below it, in any hierarchy.
    pub fn processes(&self, path: &Path) -> BTreeSet<i32> {
        let dirs = self.0.iter().flat_map(|h| subtree(&h.dir(path)));
        dirs.flat_map(|dir| pids(&dir)).collect()
    }

    /// The processes of a unit in the pod at `pod`.
    pub fn processes_of_unit(&self, pod: &Path, unit: &str) -> BTreeSet<i32> {
        let dirs = self.0.iter().filter_map(|h| h.dir_of_unit(pod, unit));
        let dirs = dirs.flat_map(|dir| subtree(&dir));
        dirs.flat_map(|dir| pids(&dir)).collect()
    }

    /// The cgroups with one of these names, as paths from their hierarchy's root.
    pub fn find(&self, names: &[String]) -> BTreeSet<PathBuf> {
        let named = |dir: &PathBuf| {
            let name = dir.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| names.iter().any(|n| n == name))
        };
        let of = |hierarchy: &Hierarchy| {
            let found = subtree(&hierarchy.mount_point).into_iter().filter(named);
            let below = found.filter_map(|dir| {
                let below = dir.strip_prefix(&hierarchy.mount_point).ok()?;
                Some(hierarchy.mounted.join(below))
            });
            below.collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// Removes the cgroup `path` with all below it from every hierarchy. What is not there is no error.
    pub fn remove(&self, path: &Path) -> Result<()> {
        for hierarchy in &self.0 {
            for dir in subtree(&hierarchy.dir(path)).iter().rev() {
                match fs::remove_dir(dir) {
                    Err(err) if err.kind() != ErrorKind::NotFound => {
                        return Err(err)
                            .with_context(|| format!("remove cgroup {}", dir.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The process is in a cgroup of the pod's. Dropped, it goes back and the cgroup is removed, unless it is kept.
#[derive(Debug)]
pub struct Entered {
    hierarchies: Hierarchies,
    path: PathBuf,
    /// Controllers of the unified hierarchy that were not there for cgroups beside the pod's.
    enabled: Vec<&'static str>,
    kept: bool,
}

impl Entered {
    /// Stays in the cgroup.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Has the pod's cgroup of the unified hierarchy get the controllers that limits are set by. The kernel refuses that
    /// where processes are beside the pod's cgroup; what is lost by it is seen when limits are read back.
    fn enable(&mut self) {
        let Some(file) = self.subtree_control() else {
            return;
        };
        let before = fs::read_to_string(&file).unwrap_or_default();
        for controller in LIMITING {
            let missing = !before.split_whitespace().any(|c| c == controller);
            if missing && fs::write(&file, format!("+{controller}")).is_ok() {
                self.enabled.push(controller);
            }
        }
    }

    /// The file that says what controllers the cgroups beside the pod's have.
    fn subtree_control(&self) -> Option<PathBuf> {
        let unified = self.hierarchies.0.iter().find(|h| h.is_unified())?;
        let dir = unified.dir(self.path.parent()?);
        Some(dir.join("cgroup.subtree_control"))
    }

    fn leave(&mut self) {
        // No process may go back into a cgroup whose children have controllers.
        if let Some(file) = self.subtree_control() {
            for controller in self.enabled.drain(..) {
                let _ = fs::write(&file, format!("-{controller}"));
            }
        }
        for hierarchy in &self.hierarchies.0 {
            // Undoing goes as far as it can; what fails here would fail again in gc, which reports it.
            let _ = join(&hierarchy.dir(&hierarchy.own));
        }
        let _ = self.hierarchies.remove(&self.path);
        self.kept = true;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.kept {
            self.leave();
        }
    }
}

/// The cgroup that a pod at `path` is started in.
fn inner(hierarchy: &Hierarchy, path: &Path) -> PathBuf {
    let of_nspawn = hierarchy.controllers.iter().all(|c| c.starts_with("name="));
    if of_nspawn {
        path.to_owned()
    } else {
        path.join(PAYLOAD)
    }
}

fn make(hierarchy: &Hierarchy, path: &Path) -> Result<()> {
    let dir = hierarchy.dir(path);
    fs::create_dir_all(&dir).with_context(|| format!("make cgroup {}", dir.display()))?;
    if hierarchy.controllers.iter().any(|c| c == "cpuset") {
        // A v1 cpuset starts without CPUs and memory nodes and cannot be joined so (cpusets(7)).
        let mut parents: Vec<_> = dir
            .ancestors()
            .take_while(|d| *d != hierarchy.mount_point)
            .collect();
        parents.reverse();
        for dir in parents {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited = dir
                    .parent()
                    .map(|parent| fs::read_to_string(parent.join(file)));
                let set = fs::read_to_string(dir.join(file)).unwrap_or_default();
                if let (Some(Ok(inherited)), true) = (inherited, set.trim().is_empty()) {
                    write(&dir.join(file), inherited.trim())?;
                }
            }
        }
    }
    Ok(())
}

/// Lets the root of a user namespace make cgroups and move processes there; the limits are not its to change.
fn delegate(dir: &Path, users: IdRange) -> Result<()> {
    let files = ["", "cgroup.procs", "tasks"].map(|file| dir.join(file));
    for path in files {
        chown(&path, Some(users.shift), Some(users.shift))
            .with_context(|| format!("give {} to the pod's root", path.display()))?;
    }
    Ok(())
}

/// Tries again what meets a cgroup that somebody removes at the same time.
fn despite_removal(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let mut tries = JOIN_TRIES;
    loop {
        tries -= 1;
        match attempt() {
            Err(err) if tries > 0 && is_gone(&err) => {}
            ended => return ended,
        }
    }
}

/// Whether a cgroup was removed before something was written to it.
fn is_gone(err: &anyhow::Error) -> bool {
    let errno = err
        .downcast_ref()
        .and_then(rustix::io::Errno::from_io_error);
    // NODEV: after its file was opened.
    matches!(
        errno,
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV)
    )
}

fn join(dir: &Path) -> Result<()> {
    // "0" is the writing process (cgroups(7)).
    write(&dir.join("cgroup.procs"), "0")
}

fn write(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content).with_context(|| format!("write {content} to {}", file.display()))
}

/// `dir` and the cgroups below it, parents first.
fn subtree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        let dirs = entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        next.extend(dirs.map(|e| e.path()));
        found.push(dir);
    }
    found
}

fn pids(dir: &Path) -> Vec<i32> {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    procs
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| *pid > 0)
        .collect()
}
