//! Ends an app within a time that is not its unit's own.

use std::time::Duration;

use anyhow::{Context, Result};
use common::pod::StageRoot;
use common::status::AppStatus;
use common::unit::app_unit;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::manager::Manager;
use crate::supervisor;

/// Asks an app to end by its stop signal, and SIGCONT so that it hears it, as systemd would (systemd.kill(5)). Kills it when
/// it has not ended within `time`, and its status says so. One that has no process has ended.
pub(crate) fn end_within(root: &StageRoot, app: &str, time: Duration) -> Result<()> {
    let stopping = Manager::connect()?.stopping(&app_unit(app))?;
    let pid = i32::try_from(stopping.main_pid)
        .ok()
        .and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return Ok(());
    };
    let send = |signal| match pidfd_send_signal(&pidfd, signal) {
        Err(Errno::SRCH) => Ok(()),
        sent => sent.context("signal the app"),
    };
    send(common::sys::signal(stopping.signal).context("the app's stop signal")?)?;
    send(Signal::CONT)?;
    if supervisor::wait(&pidfd, Some(time))? {
        return Ok(());
    }
    let noted = AppStatus::update(&root.status_json(app), |status| {
        status.killed_as_late = true;
        Ok(())
    });
    // Also when the disk is full.
    send(Signal::KILL)?;
    supervisor::wait(&pidfd, None)?;
    noted.map(drop)
}
