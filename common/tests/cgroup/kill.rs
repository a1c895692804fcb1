//! Killing what runs away from it, by each of the means that kernels have.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cgroup::{Hierarchies, Hierarchy};
use tempfile::TempDir;

use super::real;

/// A process that starts its successor and ends, again and again: it is never there for long under one pid. Whatever
/// becomes of the test, it does not stay.
struct Runaway<'a> {
    hierarchies: &'a Hierarchies,
    path: PathBuf,
    // The program, which it needs as long as it lives.
    _dir: TempDir,
}

impl<'a> Runaway<'a> {
    /// Lets it loose in a cgroup.
    fn start(hierarchies: &'a Hierarchies, name: &str) -> Self {
        let path = PathBuf::from(format!("/cgroup-test-{name}-{}", std::process::id()));
        let dir = TempDir::new().unwrap();
        let script = dir.path().join("runner");
        fs::write(&script, "#!/bin/sh\n\"$0\" &\n").unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let entered = hierarchies.clone().enter(&path, None).unwrap();
        let first = Command::new(&script).spawn();
        drop(entered);
        let runaway = Runaway {
            hierarchies,
            path,
            _dir: dir,
        };
        first.unwrap().wait().unwrap();
        assert!(!hierarchies.processes(&runaway.path).is_empty(), "{name}");
        runaway
    }

    /// Fails as long as anything lives in the cgroup.
    fn expect_gone(self) {
        self.hierarchies.remove(&self.path).unwrap();
    }
}

impl Drop for Runaway<'_> {
    fn drop(&mut self) {
        let _ = self.hierarchies.kill(&self.path);
        let _ = self.hierarchies.remove(&self.path);
    }
}

/// The hierarchies of one version, where the kernel has it.
fn of_version(real: &Hierarchies, unified: bool) -> Option<Hierarchies> {
    let of_it = real.0.iter().filter(|h| h.is_unified() == unified);
    let of_it = Hierarchies(of_it.cloned().collect());
    (!of_it.0.is_empty()).then_some(of_it)
}

#[test]
fn who_runs_away_is_killed_as_a_whole() {
    let Some((real, _turn)) = real() else {
        return;
    };
    if of_version(&real, true).is_some() {
        let runaway = Runaway::start(&real, "whole");
        real.kill(&runaway.path).unwrap();
        runaway.expect_gone();
    }
}

#[test]
fn who_runs_away_is_frozen_by_the_controller() {
    let Some((real, _turn)) = real() else {
        return;
    };
    let freezing = |v1: &Hierarchies| v1.has_controller("freezer", "", &[]);
    if let Some(v1) = of_version(&real, false).filter(freezing) {
        let runaway = Runaway::start(&v1, "v1");
        v1.kill(&runaway.path).unwrap();
        runaway.expect_gone();
    }
}

/// As in a scope: the host's systemd makes no cgroups of the freezer.
#[test]
fn who_runs_away_cannot_fork_without_the_controller() {
    let Some((real, _turn)) = real() else {
        return;
    };
    let counting = |v1: &Hierarchies| v1.has_controller("pids", "", &[]);
    if let Some(mut v1) = of_version(&real, false).filter(counting) {
        v1.0.retain(|h| h.controllers.iter().all(|c| c != "freezer"));
        let runaway = Runaway::start(&v1, "pids");
        v1.kill(&runaway.path).unwrap();
        runaway.expect_gone();
    }
}

/// As before Linux 5.14: of the files of the cgroup that one is not there.
#[test]
fn who_runs_away_is_frozen_without_a_whole_kill() {
    let Some((real, _turn)) = real() else {
        return;
    };
    let Some(unified) = of_version(&real, true) else {
        return;
    };
    let runaway = Runaway::start(&unified, "frozen");
    let older = TempDir::new().unwrap();
    let dir = of_older_kernel(&unified.0[0], &runaway.path, older.path());
    let older = Hierarchies(vec![Hierarchy {
        mount_point: older.path().to_owned(),
        ..unified.0[0].clone()
    }]);
    older.kill(&runaway.path).unwrap();
    assert_eq!(
        fs::read_to_string(dir.join("cgroup.freeze")).unwrap(),
        "0\n"
    );
    runaway.expect_gone();
}

/// Makes the cgroup anew below `mount_point`, of links to the kernel's files.
fn of_older_kernel(unified: &Hierarchy, path: &Path, mount_point: &Path) -> PathBuf {
    let dir = mount_point.join(path.strip_prefix("/").unwrap());
    fs::create_dir(&dir).unwrap();
    for file in fs::read_dir(unified.dir(path)).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "cgroup.kill" {
            symlink(file.path(), dir.join(file.file_name())).unwrap();
        }
    }
    dir
}
