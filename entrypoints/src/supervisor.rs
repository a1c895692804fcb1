//! Finding a pod's processes from its directory, without trusting a pid that was written long ago.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::pod::{PodDir, machine_name};
use common::record;
use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a process may take to become PID 1 of a pod that is starting.
const START_TIME: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile: the kernel tells nobody of a new namespace.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The supervisor of the pod `uuid` (the parent of its PID 1), when it is alive.
///
/// The pid in the file may be somebody else's by now: a process counts only when its command line names the pod, and
/// it is held by descriptor before that is looked at.
pub(crate) fn of_pod(dir: &PodDir, uuid: &Uuid) -> Result<Option<OwnedFd>> {
    let named = match (pid_file(&dir.ppid())?, pid_file(&dir.pid())?) {
        (None, Some(init)) => parent(init),
        (supervisor, _) => supervisor,
    };
    let Some(pid) = named else { return Ok(None) };
    let Some(pidfd) = open(pid)? else {
        return Ok(None);
    };
    let command = Process::new(pid.as_raw_nonzero().get())
        .and_then(|p| p.cmdline())
        .unwrap_or_default();
    let machine = format!("--machine={}", machine_name(uuid.as_str()));
    Ok(command.contains(&machine).then_some(pidfd))
}

/// The parent of a process, when it is alive.
fn parent(pid: Pid) -> Option<Pid> {
    let process = Process::new(pid.as_raw_nonzero().get());
    Pid::from_raw(process.and_then(|process| process.stat()).ok()?.ppid)
}

/// The cgroup of the pod, as its directory names it; `None` when it never had one.
///
/// # Errors
/// When what the file names is not a cgroup of this pod: nothing else may be killed or removed.
pub(crate) fn cgroup(dir: &PodDir, uuid: &Uuid) -> Result<Option<PathBuf>> {
    let file = dir.subcgroup();
    let content = record::read(&file).with_context(|| format!("read {}", file.display()))?;
    let Some(content) = content else {
        return Ok(None);
    };
    let path = PathBuf::from(content.trim_end());
    let plain = path
        .components()
        .all(|c| !matches!(c, std::path::Component::ParentDir));
    let name = path.file_name().and_then(|name| name.to_str());
    let own = name.is_some_and(|name| cgroup_names(uuid).iter().any(|own| own == name));
    if !path.is_absolute() || !plain || !own {
        bail!(
            "{}: {content:?} is not a cgroup of this pod",
            file.display()
        );
    }
    Ok(Some(path))
}

/// The names that a pod's cgroup may have: by itself, and as a scope of the host's systemd.
pub(crate) fn cgroup_names(uuid: &Uuid) -> [String; 2] {
    let machine = machine_name(uuid.as_str());
    let escaped = common::unit::escape::unit_name(&machine);
    [machine, format!("machine-{escaped}.scope")]
}

/// The pod's PID 1 among the processes of its cgroup, when it takes the request to halt: before that, the kernel keeps
/// signals without a handler away from a PID 1.
pub(crate) fn listening_init(processes: impl IntoIterator<Item = i32>) -> Result<Option<OwnedFd>> {
    for pid in processes {
        let Some(pidfd) = Pid::from_raw(pid).map(open).transpose()?.flatten() else {
            continue;
        };
        if is_pod_init(pid) && takes_halt_signal(pid) && !wait(&pidfd, Some(Duration::ZERO))? {
            return Ok(Some(pidfd));
        }
    }
    Ok(None)
}

/// Whether a process has a handler for the request to halt, or takes it from a signalfd, as systemd does, for which
/// the signal is blocked.
fn takes_halt_signal(pid: i32) -> bool {
    let Ok(status) = Process::new(pid).and_then(|process| process.status()) else {
        return false;
    };
    let bit = 1_u64 << (common::sys::halt_signal().as_raw() - 1);
    (status.sigblk | status.sigcgt) & bit != 0
}

/// Reads a file that holds a pid; `None` when it is not there.
fn pid_file(path: &Path) -> Result<Option<Pid>> {
    let content = record::read(path).with_context(|| format!("read {}", path.display()))?;
    let Some(content) = content else {
        return Ok(None);
    };
    let pid = content
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw);
    pid.map(Some)
        .with_context(|| format!("{}: {content:?} is not a pid", path.display()))
}

/// A descriptor of a process; `None` when there is none.
fn open(pid: Pid) -> Result<Option<OwnedFd>> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // ESRCH: gone; EINVAL: a thread that is no process.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("open process {}", pid.as_raw_nonzero())),
    }
}

/// Waits until the process ends, or the time is over; says whether it has ended.
pub(crate) fn wait(pidfd: &OwnedFd, time: Option<Duration>) -> Result<bool> {
    let timeout = time
        .map(Timespec::try_from)
        .transpose()
        .context("wait for a process")?;
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => wait(pidfd, time),
        Err(err) => Err(err).context("wait for a process"),
    }
}

/// The PID 1 of a pod, by the pid that the host has for it.
///
/// # Errors
/// When it is no such process, or does not become one within two seconds: nothing may ever be entered but a pod.
pub(crate) fn pod_init(pid: &str) -> Result<OwnedFd> {
    let number: i32 = pid
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .with_context(|| format!("--pid={pid}: is not a pid"))?;
    let raw = Pid::from_raw(number).with_context(|| format!("--pid={pid}: is not a pid"))?;
    let pidfd = open(raw)?
        .with_context(|| format!("--pid={pid}: there is no such process, the pod has ended"))?;
    let deadline = Instant::now() + START_TIME;
    while !is_pod_init(number) {
        if wait(&pidfd, Some(LOOK_AGAIN))? {
            bail!("--pid={pid}: the process has ended, the pod is not running");
        }
        if Instant::now() >= deadline {
            bail!("--pid={pid}: is not PID 1 of a pod");
        }
    }
    // Alive still, so what was read was of this process.
    if wait(&pidfd, Some(Duration::ZERO))? {
        bail!("--pid={pid}: the process has ended, the pod is not running");
    }
    Ok(pidfd)
}

/// Whether a process is PID 1 of a PID namespace below this one (`NSpid` in proc_pid_status(5): its pid in each
/// namespace, from that of the reader inwards).
fn is_pod_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap_or_default();
    let pids: Vec<_> = pids.split_ascii_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}
