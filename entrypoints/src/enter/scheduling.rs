//! When and where a process runs: what a child of another inherits of that.

use std::num::NonZeroU64;

use anyhow::{Context, Result};
use common::sys::scheduling::{Policy, io_priority, set_io_priority};
use procfs::process::Process;
use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::{
    CpuSet, current_timer_slack, sched_getaffinity, sched_setaffinity, set_current_timer_slack,
};

/// What a child of a process inherits of when and where it runs.
#[derive(Debug)]
pub(super) struct Scheduling {
    policy: Policy,
    nice: i32,
    /// Processors that it may run on.
    cpus: CpuSet,
    /// Where the kernel has such a priority.
    io: Option<i32>,
    /// How late timers may be, in nanoseconds; real-time processes have none.
    timer_slack: Option<NonZeroU64>,
}

impl Scheduling {
    /// What a child of the process `pid` would inherit; `process` is the same in a proc file system.
    pub(super) fn of(pid: Pid, process: &Process) -> Result<Self> {
        let nice = getpriority_process(Some(pid)).context("read its nice value")?;
        let policy = Policy::of(Some(pid)).context("read its scheduling policy")?;
        let (policy, nice) = policy.of_child(nice);
        let timer_slack = process
            .open_relative("timerslack_ns")
            .map_err(anyhow::Error::from)
            .and_then(|file| Ok(std::io::read_to_string(file)?.trim().parse::<u64>()?))
            .context("read its timer slack")?;
        Ok(Self {
            policy,
            nice,
            cpus: sched_getaffinity(Some(pid)).context("read its processors")?,
            io: io_priority(Some(pid)).context("read its I/O priority")?,
            timer_slack: NonZeroU64::new(timer_slack),
        })
    }

    /// Has this process have it, and all that it becomes. What is the same already is left alone: to raise some of it
    /// takes rights that not every host's root has.
    pub(super) fn take(&self) -> Result<()> {
        let own = getpriority_process(None).context("read the nice value")?;
        if own != self.nice {
            setpriority_process(None, self.nice)
                .with_context(|| format!("set the nice value {}", self.nice))?;
        }
        if Policy::of(None).context("read the scheduling policy")? != self.policy {
            self.policy.take(self.nice).with_context(|| {
                format!("set the scheduling policy of the app, {:?}", self.policy)
            })?;
        }
        if sched_getaffinity(None).context("read the processors")? != self.cpus {
            sched_setaffinity(None, &self.cpus).context("set the processors of the app")?;
        }
        if let Some(io) = self.io
            && io_priority(None).context("read the I/O priority")? != Some(io)
        {
            set_io_priority(io).with_context(|| format!("set the I/O priority {io}"))?;
        }
        let own = current_timer_slack().context("read the timer slack")?;
        match self.timer_slack {
            Some(slack) if slack.get() != own => set_current_timer_slack(Some(slack))
                .with_context(|| format!("set the timer slack {slack} of the app")),
            _ => Ok(()),
        }
    }
}
