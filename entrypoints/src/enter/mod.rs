//! Runs a command in an app of a pod, as confined as what the app itself runs; or in the pod.
//!
//! Two processes do it. This one stays on the host: it finds the pod and the app, passes signals on, carries what is
//! typed and shown where there is a terminal, and ends as the command does. Its child goes into the pod step by step,
//! and becomes the command; nothing of the app runs in the one that stays.
//!
//! Without an app the command runs in the pod itself, as its root, with all that the pod may do: this is for root of
//! the host alone, and is what the crossing protocol uses.

mod app;
mod inside;
mod likeness;
mod pod;
mod relay;
mod released;
mod scheduling;
mod sealed;
mod stopped;
mod target;
mod terminal;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use common::flags::{self, Flag, value};
use nix::sched::{CloneFlags, setns};

use crate::print_help;
use app::App;
use inside::Inside;
use pod::Pod;
use released::Cgroup;
use target::Target;

const FLAGS: [Flag; 3] = [
    value("pid", "PID", "pid of the pod's PID 1, as the host sees it"),
    value("appname", "APP", "the app to enter"),
    value("app", "APP", "the same"),
];
const USAGE: &str = "enter --pid=PID [--appname=APP] -- COMMAND [ARGS]";
const ABOUT: &str = "Runs COMMAND in an app of the pod whose PID 1 is PID, and exits with its status.\n\
    Without an app it runs in the pod itself, with all that the pod may do.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args.clone())?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let pid = flags.value("pid").context("--pid: must be given")?;
    if flags.rest.is_empty() {
        bail!("needs a command after --, see --help");
    }
    let app = flags.value("appname").or(flags.value("app"));
    let app = app.filter(|app| !app.is_empty());
    sealed::become_sealed(&args)?;
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;

    let pod = Pod::open(pid)?;
    let app = app.map(|name| App::load(&pod, name)).transpose()?;
    let target = match &app {
        None => Target::Pod,
        Some(app) => target::find(&pod, app)?,
    };
    let (terminal, terminal_inside) = terminal::pair()?.unzip();
    let signals = wait::Signals::take()?;
    // For children only: what stays here stays on the host.
    setns(&pod.init, CloneFlags::CLONE_NEWPID).context("join the pod's processes")?;
    match common::sys::fork().context("make the process that enters")? {
        Some(child) => {
            let cgroup = Cgroup::of(&target, app.as_ref(), child);
            let status = wait::until_ended(child, &signals, terminal);
            let told = cgroup.and_then(|cgroup| cgroup.map_or(Ok(()), |own| own.released(&pod)));
            if let Err(err) = told {
                eprintln!("enter: warning: {err:#}");
            }
            status
        }
        None => {
            drop((signals, terminal));
            let inside = Inside {
                pod: &pod,
                app: app.as_ref(),
                target,
                words: &flags.rest,
            };
            inside.run(terminal_inside)
        }
    }
}
