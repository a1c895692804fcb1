//! The processes of a running pod.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use common::cgroup::Hierarchies;
use common::pod::PodDir;
use common::record;
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The processes in the pod's cgroup. A pod whose start never came so far has none.
pub fn of_pod(pod: &PodDir, proc: &Path) -> BTreeSet<i32> {
    let Some(cgroup) = cgroup(pod) else {
        return BTreeSet::new();
    };
    Hierarchies::read(proc)
        .map(|hierarchies| hierarchies.processes(&cgroup))
        .unwrap_or_default()
}

/// The pod's cgroup, as its file says; `None` when it says none that can be a pod's: the root cgroup has everybody's.
pub fn cgroup(pod: &PodDir) -> Option<PathBuf> {
    let path = PathBuf::from(record::read(&pod.subcgroup()).ok()??.trim_end());
    let plain = path.components().all(|part| part != Component::ParentDir);
    (path.is_absolute() && plain && path.file_name().is_some()).then_some(path)
}

/// The pid of a running pod's PID 1. `None` while it starts.
pub fn pid_one(pod: &PodDir, proc: &Path) -> Option<i32> {
    let named = match (read_pid(&pod.pid()), read_pid(&pod.ppid())) {
        (Some(pid), _) => depth_of_first(pid, proc).map(|_| pid),
        (None, Some(parent)) => only_child(parent, proc),
        (None, None) => None,
    };
    // When the supervisor's parent was killed, PID 1 lives on in the pod's cgroup. Apps may have PID namespaces of
    // their own, but those are deeper.
    named.or_else(|| {
        let found = of_pod(pod, proc).into_iter();
        let depths = found.filter_map(|pid| Some((depth_of_first(pid, proc)?, pid)));
        depths.min().map(|(_, pid)| pid)
    })
}

/// The child of `parent`, if it has one and that is the PID 1 of a namespace.
fn only_child(parent: i32, proc: &Path) -> Option<i32> {
    let parent_fd = pidfd_open(Pid::from_raw(parent)?, PidfdFlags::empty()).ok()?;
    let task = process(parent, proc).ok()?.task_main_thread().ok()?;
    let [child] = task.children().ok()?[..] else {
        return None;
    };
    let child = i32::try_from(child).ok()?;
    depth_of_first(child, proc)?;
    // Still the same parent, so what was read is its child.
    is_running(&parent_fd).then_some(child)
}

/// How deep the PID namespace is nested whose PID 1 `pid` is; `None` if it lives in the host's or is not the first.
fn depth_of_first(pid: i32, proc: &Path) -> Option<usize> {
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let namespaces = process(pid, proc).ok()?.status().ok()?.nspid?;
    let first = namespaces.len() > 1 && namespaces.last() == Some(&1);
    (first && is_running(&fd)).then_some(namespaces.len())
}

fn process(pid: i32, proc: &Path) -> Result<Process> {
    Ok(Process::new_with_root(proc.join(pid.to_string()))?)
}

fn read_pid(file: &Path) -> Option<i32> {
    let pid = record::read(file).ok()??.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}

/// Whether a process lives: its pidfd becomes readable when it ends.
fn is_running(pidfd: &rustix::fd::OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(
        pidfd,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pod_with(file: &str, content: &str) -> (tempfile::TempDir, PodDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(file), content).unwrap();
        let pod = PodDir::new(dir.path());
        (dir, pod)
    }

    #[test]
    fn stale_pids_are_not_believed() {
        let own = std::process::id().to_string();
        for (file, content) in [
            ("ppid", own.as_str()),
            ("pid", own.as_str()),
            ("ppid", "x"),
            ("pid", "-1"),
            ("ppid", "0"),
            ("pid", "2147483647"),
        ] {
            let (_dir, pod) = pod_with(file, content);
            assert_eq!(pid_one(&pod, Path::new("/proc")), None, "{file}={content}");
        }
    }

    #[test]
    fn nothing_lives_in_a_cgroup_that_is_not_there() {
        for cgroup in ["/no-such-pod", "/", "//", "", "no-such-pod", "/a/../.."] {
            let (_dir, pod) = pod_with("subcgroup", cgroup);
            assert!(of_pod(&pod, Path::new("/proc")).is_empty(), "{cgroup:?}");
        }
    }
}
