//! How the kernel schedules a process.

use std::io;

use nix::libc;
use rustix::process::Pid;

/// The policy that a process is scheduled by (sched(7)), and its priority in it, which only real-time policies have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    policy: u32,
    priority: u32,
    /// Its children do not inherit what puts it before others.
    resets: bool,
}

impl Policy {
    /// That of a process (sched_setattr(2)).
    pub fn of(pid: Option<Pid>) -> io::Result<Self> {
        let mut attr = attributes(0, 0);
        // SAFETY: the kernel writes no more than the size that is passed into `attr`, which is alive across the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                Pid::as_raw(pid),
                &raw mut attr,
                attr.size,
                0,
            )
        };
        succeed(result)?;
        Ok(Self {
            policy: attr.sched_policy,
            priority: attr.sched_priority,
            resets: attr.sched_flags & libc::SCHED_FLAG_RESET_ON_FORK as u64 != 0,
        })
    }

    /// That of a child of the process that has this one and the nice value `nice`; with its nice value.
    pub fn of_child(self, nice: i32) -> (Self, i32) {
        let normal = Self {
            policy: libc::SCHED_OTHER as u32,
            priority: 0,
            resets: false,
        };
        let batch = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE];
        match self.resets {
            false => (self, nice),
            true if !batch.iter().any(|&policy| policy as u32 == self.policy) => (normal, 0),
            true => {
                let resets = false;
                (Self { resets, ..self }, nice.max(0))
            }
        }
    }

    /// Has this thread scheduled by it; `nice` is the nice value that the thread has.
    pub fn take(self, nice: i32) -> io::Result<()> {
        let mut attr = attributes(self.policy, self.priority);
        attr.sched_nice = nice;
        // SAFETY: the kernel only reads `attr`, which is alive across the call and has the size that it names.
        let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        succeed(result)
    }
}

fn attributes(policy: u32, priority: u32) -> libc::sched_attr {
    libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: priority,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

/// Of which process the I/O priority is (ioprio_set(2)).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// The bits of an I/O priority that are not its class.
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// The I/O priority of a process, class and level as ioprio_set(2) has them; zero where it has none of its own, `None`
/// where the kernel knows no such thing.
pub fn io_priority(pid: Option<Pid>) -> io::Result<Option<i32>> {
    let pid = Pid::as_raw(pid);
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid) };
    match succeed(result) {
        Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
        Err(err) => Err(err),
        // The level of no class is the kernel's default, and cannot be set.
        Ok(()) if result >> IOPRIO_CLASS_SHIFT == 0 => Ok(Some(0)),
        Ok(()) => Ok(i32::try_from(result).ok()),
    }
}

/// Gives this thread an I/O priority that [`io_priority`] gave.
pub fn set_io_priority(priority: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    succeed(result)
}

fn succeed(result: libc::c_long) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_one_that_resets_are_like_others() {
        let policy = |policy: i32, priority, resets| Policy {
            policy: policy as u32,
            priority,
            resets,
        };
        let other = policy(libc::SCHED_OTHER, 0, false);
        for (own, nice, child) in [
            (policy(libc::SCHED_FIFO, 7, true), -3, (other, 0)),
            (policy(libc::SCHED_OTHER, 0, true), -3, (other, 0)),
            (policy(libc::SCHED_OTHER, 0, true), 3, (other, 3)),
            (other, -3, (other, -3)),
            (
                policy(libc::SCHED_RR, 7, false),
                1,
                (policy(libc::SCHED_RR, 7, false), 1),
            ),
        ] {
            assert_eq!(own.of_child(nice), child, "{own:?} {nice}");
        }
    }

    #[test]
    fn what_is_read_can_be_set() {
        let policy = Policy::of(None).unwrap();
        let nice = rustix::process::getpriority_process(None).unwrap();
        policy.take(nice).unwrap();
        assert_eq!(Policy::of(None).unwrap(), policy);
        if let Some(priority) = io_priority(None).unwrap() {
            set_io_priority(priority).unwrap();
            assert_eq!(io_priority(None).unwrap(), Some(priority));
        }
    }
}
