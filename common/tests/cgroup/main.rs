//! Cgroups of a pod: made, entered and left on trees of plain files, and on the kernel's own where root can do it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kill;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::cgroup::{Hierarchies, Hierarchy};
use rustix::fs::{Access, access};
use tempfile::TempDir;

/// The cgroup that the tests enter, where of v1 controllers they are in then, and the one that they are in before.
const POD: &str = "/outer/pod";
const PAYLOAD: &str = "/outer/pod/payload";
const OWN: &str = "/own";

/// Hierarchies of plain files below a directory: unified, memory and cpuset.
struct Fake {
    dir: TempDir,
    hierarchies: Hierarchies,
}

impl Fake {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let hierarchy = |name: &str, controllers: &[&str]| {
            let mount_point = dir.path().join(name);
            fs::create_dir_all(mount_point.join("own")).unwrap();
            Hierarchy {
                mount_point,
                mounted: "/".into(),
                controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
                own: OWN.into(),
            }
        };
        let hierarchies = Hierarchies(vec![
            hierarchy("unified", &[]),
            hierarchy("memory", &["memory"]),
            hierarchy("cpuset", &["cpuset"]),
        ]);
        Fake { dir, hierarchies }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// What was written to `cgroup.procs` of a cgroup in each hierarchy.
    fn procs(&self, cgroup: &str) -> [String; 3] {
        ["unified", "memory", "cpuset"].map(|name| {
            let file = self.path(&format!("{name}{cgroup}/cgroup.procs"));
            fs::read_to_string(file).unwrap_or_default()
        })
    }
}

#[test]
fn entering_joins_every_hierarchy_and_leaving_goes_back() {
    let fake = Fake::new();
    let entered = fake
        .hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap();
    assert_eq!(fake.procs(POD), ["0", "", ""]);
    assert_eq!(fake.procs(PAYLOAD), ["", "0", "0"]);
    assert_eq!(fake.procs(OWN), ["", "", ""]);
    drop(entered);
    assert_eq!(fake.procs(OWN), ["0", "0", "0"]);
}

#[test]
fn a_scope_is_limited_in_some_hierarchies() {
    let fake = Fake::new();
    let mut hierarchies = fake.hierarchies.clone();
    for controllers in [&["cpu", "cpuacct"][..], &["devices"], &["name=systemd"]] {
        hierarchies.0.push(Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            ..hierarchies.0[0].clone()
        });
    }
    let limited = hierarchies.of_scopes().0.into_iter();
    let limited: Vec<_> = limited.map(|h| h.controllers.join(",")).collect();
    assert_eq!(limited, ["memory", "cpu,cpuacct"]);
}

#[test]
fn who_is_kept_does_not_go_back() {
    let fake = Fake::new();
    fake.hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap()
        .keep();
    assert_eq!(fake.procs(POD), ["0", "", ""]);
    assert_eq!(fake.procs(PAYLOAD), ["", "0", "0"]);
    assert_eq!(fake.procs(OWN), ["", "", ""]);
}

/// A cgroup gets the controllers of the unified hierarchy that its parent passes on.
#[test]
fn limiting_controllers_are_passed_on_and_taken_back() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("unified/outer")).unwrap();
    let control = fake.path("unified/outer/cgroup.subtree_control");
    fs::write(&control, "cpu memory pids\n").unwrap();
    let entered = fake
        .hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap();
    assert_eq!(fs::read_to_string(&control).unwrap(), "+io");
    drop(entered);
    assert_eq!(fs::read_to_string(&control).unwrap(), "-io");
}

/// cpusets(7): a new one has no CPUs and no memory nodes.
#[test]
fn cpusets_are_filled_from_their_parents() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("cpuset/outer/pod")).unwrap();
    for (file, content) in [
        ("cpuset.cpus", "0-3\n"),
        ("cpuset.mems", "0\n"),
        ("outer/cpuset.cpus", "\n"),
        ("outer/cpuset.mems", "1\n"),
        ("outer/pod/cpuset.cpus", ""),
        ("outer/pod/cpuset.mems", ""),
    ] {
        fs::write(fake.path("cpuset").join(file), content).unwrap();
    }
    fake.hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap()
        .keep();
    let read = |file| fs::read_to_string(fake.path("cpuset").join(file)).unwrap();
    assert_eq!(
        (read("outer/cpuset.cpus"), read("outer/cpuset.mems")),
        ("0-3".into(), "1\n".into())
    );
    assert_eq!(
        (read("outer/pod/cpuset.cpus"), read("outer/pod/cpuset.mems")),
        ("0-3".into(), "1".into())
    );
}

#[test]
fn a_cgroup_that_cannot_be_made_has_the_others_left() {
    let fake = Fake::new();
    fs::write(fake.path("memory/outer"), "a file").unwrap();
    let error = fake
        .hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap_err();
    let start = format!(
        "make cgroup {}: ",
        fake.path("memory/outer/pod/payload").display()
    );
    assert!(format!("{error:#}").starts_with(&start), "{error:#}");
    // What was joined already. Of plain files it cannot be removed, as it has one.
    assert_eq!(fake.procs(OWN), ["0", "0", "0"]);
    let left = fs::read_dir(fake.path("unified/outer/pod")).unwrap();
    assert_eq!(left.count(), 1);
    assert!(!fake.path("cpuset/outer").exists());
}

#[test]
fn a_cgroup_that_cannot_be_joined_is_left_everywhere() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("memory/outer/pod/payload/cgroup.procs")).unwrap();
    let error = fake
        .hierarchies
        .clone()
        .enter(Path::new(POD), None)
        .unwrap_err();
    let file = fake.path("memory/outer/pod/payload/cgroup.procs");
    let start = format!("write 0 to {}: ", file.display());
    assert!(format!("{error:#}").starts_with(&start), "{error:#}");
    assert_eq!(fake.procs(OWN)[0], "0");
}

#[test]
fn removing_takes_what_is_below_and_forgives_what_is_gone() {
    let fake = Fake::new();
    for dir in [
        "unified/outer/pod/a/b",
        "unified/outer/pod/c",
        "memory/outer/pod",
    ] {
        fs::create_dir_all(fake.path(dir)).unwrap();
    }
    fake.hierarchies.remove(Path::new(POD)).unwrap();
    assert!(fake.path("unified/outer").exists());
    assert!(!fake.path("unified/outer/pod").exists());
    assert!(!fake.path("memory/outer/pod").exists());
    fake.hierarchies.remove(Path::new(POD)).unwrap();

    fs::create_dir_all(fake.path("memory/outer/pod/busy/file")).unwrap();
    fs::write(fake.path("memory/outer/pod/busy/tasks"), "").unwrap();
    let error = fake.hierarchies.remove(Path::new(POD)).unwrap_err();
    let busy = fake.path("memory/outer/pod/busy");
    assert!(
        format!("{error:#}").starts_with(&format!("remove cgroup {}: ", busy.display())),
        "{error:#}"
    );
}

#[test]
fn processes_anywhere_below_are_found_once() {
    let fake = Fake::new();
    let processes = || Vec::from_iter(fake.hierarchies.processes(Path::new(POD)));
    assert!(processes().is_empty());
    fs::create_dir_all(fake.path("memory/outer/pod/payload/app")).unwrap();
    fs::create_dir_all(fake.path("unified/outer/pod")).unwrap();
    for (cgroup, pids) in [
        ("memory/outer/pod", ""),
        ("memory/outer/pod/payload/app", "7\n12\n"),
        // 0: a process of another PID namespace.
        ("unified/outer/pod", "0\n7\n3\n"),
    ] {
        fs::write(fake.path(cgroup).join("cgroup.procs"), pids).unwrap();
    }
    assert_eq!(processes(), [3, 7, 12]);
}

/// The kernel's hierarchies, when this process may change them all; else says why not. A test that has them is the only
/// one: this process itself is moved.
fn real() -> Option<(Hierarchies, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let real = Hierarchies::read(Path::new("/proc")).unwrap();
    let root = rustix::process::geteuid().is_root();
    let writable = real
        .0
        .iter()
        .all(|h| access(h.dir(Path::new("/")), Access::WRITE_OK).is_ok());
    if !root || !writable || real.0.is_empty() {
        eprintln!(
            "skipped: only root can change cgroups, and only where they are mounted for writing"
        );
        return None;
    }
    Some((real, turn))
}

fn own_cgroups() -> Vec<String> {
    let file = fs::read_to_string("/proc/self/cgroup").unwrap();
    file.lines().map(str::to_owned).collect()
}

#[test]
fn processes_are_moved_counted_and_killed() {
    let Some((real, _turn)) = real() else {
        return;
    };
    let path = PathBuf::from(format!("/cgroup-test-{}", std::process::id()));
    let below = path.join("below");
    let before = own_cgroups();
    let entered = real.clone().enter(&below, None).unwrap();
    let inside = own_cgroups()
        .iter()
        .filter(|line| {
            let line = line.strip_suffix("/payload").unwrap_or(line);
            line.ends_with(below.to_str().unwrap())
        })
        .count();
    assert_eq!(inside, real.0.len());
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(Vec::from_iter(real.processes(&path)), [own]);
    let sleep = || Command::new("sleep").arg("1000").spawn().unwrap();
    let children = [sleep(), sleep()];
    drop(entered);
    assert_eq!(own_cgroups(), before);
    assert!(!real.processes(&path).is_empty());
    assert!(real.remove(&path).is_err());

    real.kill(&path).unwrap();
    assert!(real.processes(&path).is_empty());
    for mut child in children {
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
    real.remove(&path).unwrap();
    assert!(real.0.iter().all(|h| !h.dir(&path).exists()));
}

#[test]
fn a_cgroup_that_cannot_be_made_leaves_none_behind() {
    let Some((real, _turn)) = real() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cgroup-test"), "a file").unwrap();
    let mut hierarchies = real.clone();
    hierarchies.0.push(Hierarchy {
        mount_point: folder.path().to_owned(),
        mounted: "/".into(),
        controllers: vec!["broken".into()],
        own: "/".into(),
    });
    let path = PathBuf::from(format!("/cgroup-test/{}", std::process::id()));
    let before = own_cgroups();
    let error = hierarchies.enter(&path, None).unwrap_err();
    let start = format!("make cgroup {}", folder.path().display());
    assert!(format!("{error:#}").starts_with(&start), "{error:#}");
    assert_eq!(own_cgroups(), before);
    assert!(real.0.iter().all(|h| !h.dir(&path).exists()));
    real.remove(path.parent().unwrap()).unwrap();
}
