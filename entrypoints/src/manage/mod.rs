//! The part of the app entrypoints that is done in the pod, where systemd answers, and where the pod's mounts are; and what
//! the host's systemd is asked for an app, which is done on the host, so that other programs need no D-Bus.

mod forget;
mod start;
mod stop;
mod strays;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use common::appc::AcName;
use common::flags::{self, Flag, switch};
use common::pod::StageRoot;

use crate::manager::host;
use crate::print_help;

const FLAGS: [Flag; 1] = [switch("force", "kill what runs")];
const USAGE: &str = "manage start APP | stop [--force] APP | forget [--force] APP | allow-devices SCOPE DEVICE... |\n\
    \x20      hold-controllers MACHINE PID";
const ABOUT: &str = "Starts or stops an app of this pod, or takes away what the pod has of it.\n\
    On the host: has systemd let the pod in SCOPE use more devices, or keep the cgroup hierarchies as they are for\n\
    the pod MACHINE, whose supervisor PID is.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let mut args = args.into_iter();
    let command = args.next().unwrap_or_default();
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help || command == "--help" {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let command = command.to_str().unwrap_or_default();
    match (command, flags.rest.as_slice()) {
        ("allow-devices", [scope, devices @ ..]) => {
            let devices = devices
                .iter()
                .map(|device| (device.clone(), "rw".to_owned()));
            host::allow_devices(Path::new("/"), scope, devices.collect())?;
        }
        ("hold-controllers", [machine, pid]) => {
            let pid = pid
                .parse()
                .with_context(|| format!("{pid:?} is not a pid"))?;
            host::hold_controllers(machine, pid)?;
        }
        (_, [app]) => in_pod(command, app, flags.is_set("force"))?,
        _ => bail!("needs one app, see --help"),
    }
    Ok(ExitCode::SUCCESS)
}

fn in_pod(command: &str, app: &str, force: bool) -> Result<()> {
    let app: AcName = app.parse().with_context(|| format!("{app:?}"))?;
    let app = app.as_str();
    let root = StageRoot::new("/");
    match command {
        "start" => start::start(&root, app),
        "stop" => stop::stop(app, force),
        "forget" => forget::forget(&root, app, force),
        _ => bail!("{command:?} is not a command, see --help"),
    }
}
