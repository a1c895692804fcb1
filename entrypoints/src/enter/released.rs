//! Telling the pod's systemd that a command has ended. Where it has its units in a v1 hierarchy, nobody else does: the
//! kernel tells of empty cgroups there by a program on the host (cgroup-v1/cgroups.rst, 1.4), and a command's parent is
//! this process, not PID 1 of the pod. An app that ended meanwhile would be waited for until it is late, and fail.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use common::cgroup::SYSTEM_SLICE;
use common::unit::app_unit;
use procfs::process::Process;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use super::app::App;
use super::pod::Pod;
use super::stopped;
use super::target::Target;

/// Where systemd hears of an empty cgroup, whose path is the message. It is there with v1 alone, and meant for
/// systemd-cgroups-agent, which the kernel runs on a host. systemd looks itself whether the cgroup is empty.
const SOCKET: &str = "/run/systemd/cgroups-agent";

/// How long systemd may take to make room for the message.
const SEND_TIME: Duration = Duration::from_secs(10);

/// The cgroup of a command, as the pod's systemd names it.
pub(super) struct Cgroup(String);

impl Cgroup {
    /// That of the child, which has not been waited for, in a unit; `None` for a command of the pod itself.
    pub(super) fn of(target: &Target, app: Option<&App>, child: Pid) -> Result<Option<Self>> {
        let unit = match (target, app) {
            (Target::Running(_), Some(app)) => app_unit(&app.name),
            (Target::Stopped, Some(app)) => stopped::scope(app, pid_in_pod(child)?),
            (Target::Pod, _) | (_, None) => return Ok(None),
        };
        Ok(Some(Cgroup(format!("/{SYSTEM_SLICE}/{unit}"))))
    }

    /// Has the pod's systemd look whether it is empty. With a pod that has ended there is nobody to tell.
    pub(super) fn released(&self, pod: &Pod) -> Result<()> {
        let opened = pod.root.open_at(Path::new(SOCKET), OFlags::PATH);
        let socket = match opened {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened.with_context(|| format!("open {SOCKET} of the pod"))?,
        };
        let sender = UnixDatagram::unbound().context("make a socket")?;
        let limited = sender.set_write_timeout(Some(SEND_TIME));
        limited.context("limit how long a message is waited with")?;
        let address = format!("/proc/self/fd/{}", socket.as_raw_fd());
        match sender.send_to(self.0.as_bytes(), address) {
            Err(err) if err.kind() != ErrorKind::ConnectionRefused => {
                Err(err).context("tell the pod's systemd that the command has ended")
            }
            _ => Ok(()),
        }
    }
}

/// The pid that a child has in the pod.
fn pid_in_pod(child: Pid) -> Result<u32> {
    let status = Process::new(child.as_raw_nonzero().get()).and_then(|process| process.status());
    let pids = status.context("look at the process that enters")?.nspid;
    let inner = pids.and_then(|pids| pids.last().copied());
    let inner = inner.context("the kernel does not tell pids in a pod")?;
    u32::try_from(inner).context("a pid in the pod")
}
