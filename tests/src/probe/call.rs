//! Raw system calls: to see what a filter makes of them, and where there is no other way.

#![allow(
    unsafe_code,
    reason = "calls by their numbers, and calls that no crate makes"
)]

use anyhow::{Context, Result};
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use nix::libc;

/// Makes the system call `number` with arguments that are all zero; says how it ended.
pub(super) fn with_zeros(number: i64) -> String {
    // SAFETY: no pointer and no length is passed but null and zero; the numbers that tests name either fail on those, or
    // (close_range, from 0 to 0) close standard input, which nothing reads any more.
    let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
    match result {
        -1 => format!("{:?}", Errno::last()),
        _ => "ok".to_owned(),
    }
}

/// Has the kernel say of a system call that there is none, to this process and to what it executes.
pub(super) fn hide(name: &str) -> Result<()> {
    let call = ScmpSyscall::from_name(name).with_context(|| name.to_owned())?;
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    // Root may without, and set-user-ID programs keep working.
    filter.set_ctl_nnp(false)?;
    filter.add_rule(ScmpAction::Errno(libc::ENOSYS), call)?;
    filter.load().context("load the filter")
}

/// The I/O priority of this process, as ioprio_get(2) has it.
pub(super) fn io_priority() -> i64 {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: the call takes numbers alone.
    unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) }
}
