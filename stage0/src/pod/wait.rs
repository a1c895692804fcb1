//! Waits for pods: until one has ended, until one is ready, until one has its root.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::appc::Uuid;
use common::pod::PodDir;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::mounts::is_mounted;
use super::state::{Pod, Seen, State};
use super::{Pods, lock, process};

/// Waits until the pod `uuid` does not run and will not, and returns it then.
pub fn until_ended(pods: &Pods, uuid: &Uuid, proc: &Path) -> Result<Seen> {
    loop {
        let seen = pods.see(uuid, proc)?;
        let pod = &seen.pod;
        match seen.state {
            State::Exited | State::Aborted | State::Deleting => return Ok(seen),
            State::Preparing => lock::wait_until_free(pod)?,
            State::Running => {
                lock::wait_until_free(pod)?;
                until_empty(&pod.files(), proc)?;
            }
            State::Embryo | State::Prepared => until_moved(pods, pod)?,
        }
    }
}

/// How often it is looked at whether a pod runs still, of which no event tells.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until something holds that comes with a new entry of the directory `dir`; no longer than the pod runs, nor than
/// until `end`.
pub fn until(
    dir: &Path,
    holds: impl Fn() -> bool,
    runs: impl Fn() -> Result<bool>,
    end: Instant,
) -> Result<()> {
    use inotify::{CreateFlags, WatchFlags};
    if holds() {
        return Ok(());
    }
    let context = || format!("watch {}", dir.display());
    let watch =
        inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).with_context(context)?;
    let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, dir, events).with_context(context)?;
    let look = Timespec::try_from(LOOK)?;
    let mut buffer = [0; 4096];
    while !holds() {
        if !runs()? {
            bail!("it has ended");
        }
        if Instant::now() > end {
            bail!("it takes too long");
        }
        let mut fds = [PollFd::new(&watch, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, Some(&look))).with_context(context)?;
        // What the events say does not matter, only that they are taken.
        let _ = rustix::io::read(&watch, &mut buffer);
    }
    Ok(())
}

/// How long the root of a pod that starts may take to be mounted.
const MOUNT_TIME: Duration = Duration::from_secs(60);

/// Waits until the entrypoints of a pod that runs are there: one that starts has no root for a moment.
pub fn until_mounted(pods: &Pods, uuid: &Uuid, proc: &Path) -> Result<Seen> {
    let end = Instant::now() + MOUNT_TIME;
    loop {
        let path = proc.join("self/mountinfo");
        let mounts = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let seen = pods.see(uuid, proc)?;
        let dir = pods.dir(seen.pod.place, uuid);
        let starts = seen.state == State::Running && dir.overlay_prepared().exists();
        if !starts || is_mounted(dir.stage_root().path(), proc)? {
            return Ok(seen);
        }
        ensure!(
            Instant::now() < end,
            "pod {uuid}: its root is not mounted: {}",
            dir.stage_root().path().display()
        );
        // proc_pid_mountinfo(5): it says by POLLPRI that it has changed since it was opened. The end of who mounts is no
        // such event.
        let mut fds = [PollFd::new(&mounts, PollFlags::PRI)];
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        retry_on_intr(|| poll(&mut fds, Some(&second))).context("wait for a mount")?;
    }
}

/// Waits until the directory of the pod is moved or deleted.
fn until_moved(pods: &Pods, pod: &Pod) -> Result<()> {
    use inotify::{CreateFlags, WatchFlags};
    let watch = inotify::init(CreateFlags::CLOEXEC).context("watch the pod directory")?;
    let dir = pods.dir(pod.place, &pod.uuid);
    let events = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
    match inotify::add_watch(&watch, dir.path(), events) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other.with_context(|| format!("watch {}", dir.path().display()))?,
    };
    // It may have moved before the watch was there.
    if !pod.is_in_place(pods)? {
        return Ok(());
    }
    wait_for(&watch)
}

/// Waits for the processes in the pod's cgroup, where a killed supervisor's parent has left some.
fn until_empty(pod: &PodDir, proc: &Path) -> Result<()> {
    for pid in process::of_pod(pod, proc) {
        let pid = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        // An error means that it has ended since.
        if let Some(Ok(process)) = pid {
            wait_for(&process)?;
        }
    }
    Ok(())
}

fn wait_for(fd: &rustix::fd::OwnedFd) -> Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    match retry_on_intr(|| poll(&mut fds, None)).context("wait for the pod")? {
        0 => bail!("wait for the pod: poll ended without an event"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::super::Place;
    use super::super::lock::Lock;
    use super::*;

    const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    #[test]
    fn follows_a_pod_to_its_end() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let uuid: Uuid = UUID.parse().unwrap();
        for place in Place::ALL {
            fs::create_dir_all(pods.folder(place)).unwrap();
        }
        let dir = pods.dir(Place::Prepared, &uuid);
        fs::create_dir_all(dir.path()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiting = (pods.clone(), uuid.clone());
        let thread = thread::spawn(move || {
            let (pods, uuid) = waiting;
            let seen = until_ended(&pods, &uuid, Path::new("/proc")).unwrap();
            sender.send(seen.state).unwrap();
        });
        let lock = Lock::exclusive(dir.path()).unwrap();
        pods.rename(&uuid, Place::Prepared, Place::Run).unwrap();
        assert!(receiver.try_recv().is_err());
        drop(lock);
        assert_eq!(receiver.recv().unwrap(), State::Exited);
        thread.join().unwrap();
    }

    #[test]
    fn a_pod_that_is_removed_is_not_waited_for() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let error = until_ended(&pods, &UUID.parse().unwrap(), Path::new("/proc")).unwrap_err();
        assert_eq!(error.to_string(), format!("find pod {UUID}: there is none"));
    }
}
