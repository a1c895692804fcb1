//! User namespaces as maps of ids, for mounts that show files with other owners than they have.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::id_range::IdRange;
use crate::sys;

/// A new user namespace whose ids are `range`. No process is in it.
///
/// # Errors
/// When the kernel or its limits allow none, or this process is not root.
pub fn with_ids(range: IdRange) -> Result<OwnedFd> {
    // The kernel makes one for a process alone: a copy of this one, which stops in it until it has ids.
    let make = || {
        let child = sys::fork_into_user_namespace()?;
        let made = stopped(child).and_then(|()| give_ids(child, range));
        // Fails only when it is gone.
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
        made
    };
    make().with_context(|| format!("make a user namespace with the ids {range}"))
}

/// Waits until the copy has stopped.
fn stopped(child: Pid) -> Result<()> {
    let status = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::UNTRACED))?;
    match status.map(|(_, status)| status) {
        Some(status) if status.stopped() => Ok(()),
        Some(status) => Err(error(status)),
        None => bail!("its process did not stop"),
    }
}

fn error(status: WaitStatus) -> anyhow::Error {
    match status.exit_status() {
        Some(errno) if errno > 0 => io::Error::from_raw_os_error(errno).into(),
        _ => anyhow::anyhow!("its process was killed"),
    }
}

fn give_ids(child: Pid, range: IdRange) -> Result<OwnedFd> {
    let proc = format!("/proc/{}", child.as_raw_nonzero());
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{map}"), range.map()).with_context(|| format!("write {map}"))?;
    }
    let namespace = format!("{proc}/ns/user");
    let file = File::open(&namespace).with_context(|| format!("open {namespace}"))?;
    Ok(file.into())
}
