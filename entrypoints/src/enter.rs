//! Runs a command in a pod: what stage0 and the crossing entrypoints reach into a pod with.
//!
//! Without an app the command runs in the pod itself, as its root, with all that the pod may do: this is for root of
//! the host alone, and is what the crossing protocol uses.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use common::cgroup::Hierarchies;
use common::flags::{self, Flag, value};
use nix::sched::{CloneFlags, setns};

use crate::{print_help, supervisor};

const FLAGS: [Flag; 3] = [
    value("pid", "PID", "pid of the pod's PID 1, as the host sees it"),
    value("appname", "APP", "the app to enter"),
    value("app", "APP", "the same"),
];
const USAGE: &str = "enter --pid=PID [--appname=APP] -- COMMAND [ARGS]";
const ABOUT: &str = "Runs COMMAND in the pod whose PID 1 is PID, and exits with its status.";

/// Exit statuses of a shell for a command that is not there or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    if let Some(app) = flags
        .value("appname")
        .or(flags.value("app"))
        .filter(|app| !app.is_empty())
    {
        // A process that is not confined as the app is must not be put into it.
        bail!("--appname={app}: entering an app is not supported yet, only the pod (no --appname)");
    }
    let pid = flags.value("pid").context("--pid: must be given")?;
    let Some((program, args)) = flags.rest.split_first() else {
        bail!("needs a command after --, see --help");
    };
    let init = supervisor::pod_init(pid)?;
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
    // While the host's cgroups are in sight. The command is limited, and killed, with the pod.
    Hierarchies::of_process(Path::new("/proc"), pid)?
        .join()
        .context("join the pod's cgroups")?;
    join(&init)?;
    std::env::set_current_dir("/").context("change to the pod's root")?;

    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", common::env::DEFAULT_PATH);
    command.envs(std::env::vars_os().filter(|(name, _)| name == "TERM"));
    // The PID namespace holds for children only.
    let status = match command.arg0(program).status() {
        Ok(status) => status,
        Err(err) => {
            eprintln!("enter: execute {program}: {err}");
            let missing = err.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            }));
        }
    };
    let code = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or_default();
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Moves this process into all namespaces of the pod that differ from its own.
fn join(init: &std::os::fd::OwnedFd) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    // With the user namespace first; joining the one that the process is in already is an error (setns(2)).
    match setns(init, namespaces | CloneFlags::CLONE_NEWUSER) {
        Err(nix::errno::Errno::EINVAL) => {
            setns(init, namespaces).context("join the pod's namespaces")
        }
        joined => joined.context("join the pod's namespaces"),
    }
}
