//! Kills a command at any of the points at which it changes something.

use std::ffi::c_long;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// System calls that change files or mounts, start a program or wait for one.
const CHANGES: [c_long; 20] = [
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_symlinkat,
    libc::SYS_copy_file_range,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_chmod,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_vfork,
    libc::SYS_poll,
    libc::SYS_wait4,
];

/// Runs a command and kills it when it is about to make its change number `point`, from 0. What it has started goes on.
/// False when the command has ended, well, before it came so far.
pub fn killed_at(command: &Command, point: usize) -> Result<bool> {
    let pid = start_stopped(command)?;
    ptrace::seize(
        pid,
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL,
    )
    .context("trace the command")?;
    let (mut entering, mut changes) = (false, 0);
    kill(pid, Signal::SIGCONT)?;
    loop {
        let deliver = match waitpid(pid, None).context("wait for the traced command")? {
            WaitStatus::Exited(_, 0) => return Ok(false),
            WaitStatus::PtraceSyscall(_) => {
                entering = !entering;
                let call = ptrace::getregs(pid)
                    .context("read the system call")?
                    .orig_rax;
                let changes_something = c_long::try_from(call).is_ok_and(|n| CHANGES.contains(&n));
                if entering && changes_something {
                    if changes == point {
                        kill(pid, Signal::SIGKILL)?;
                        let end = waitpid(pid, None)?;
                        ensure!(
                            matches!(end, WaitStatus::Signaled(..)),
                            "not killed: {end:?}"
                        );
                        return Ok(true);
                    }
                    changes += 1;
                }
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            // The stop in which it was found.
            WaitStatus::PtraceEvent(..) => None,
            end => bail!("{command:?}: {end:?}"),
        };
        ptrace::syscall(pid, deliver).context("let the traced command go on")?;
    }
}

/// Starts a shell that stops itself before it becomes the command.
fn start_stopped(command: &Command) -> Result<Pid> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = {
        let _alone = super::spawning();
        shell.spawn().context("start a shell")?
    };
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    match waitpid(pid, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(pid),
        other => bail!("the shell did not stop: {other:?}"),
    }
}
