//! Runs in the pod: looks once whether an app is well, by a command of the app's, and counts what it finds. A timer
//! starts it, and systemd kills what the command has left when this has ended.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::flags::{self, Flag, value};
use common::pod::StageRoot;
use common::status::{AppStatus, State};
use common::time_span;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ending::end_within;
use crate::{print_help, supervisor};

const FLAGS: [Flag; 3] = [
    value("timeout", "SPAN", "how long the command may take"),
    value(
        "retries",
        "N",
        "after how many failures in a row the app is unhealthy",
    ),
    value(
        "end-within",
        "SPAN",
        "end an unhealthy app, so that systemd starts it again, and kill it when it takes longer",
    ),
];
const USAGE: &str = "health --timeout=SPAN --retries=N [--end-within=SPAN] APP -- PROGRAM [ARGS]";
const ABOUT: &str =
    "Runs PROGRAM as the app APP of this pod would: it is well when that exits with 0.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    let (app, program) = match flags.rest.as_slice() {
        _ if flags.help => return print_help(&flags::help(USAGE, ABOUT, &FLAGS)),
        [app, dashes, program @ ..] if dashes == "--" && !program.is_empty() => (app, program),
        _ => bail!("needs an app, -- and a program, see --help"),
    };
    let timeout = flags.value("timeout").context("--timeout: is missing")?;
    let timeout = time_span::parse(timeout).context("--timeout")?;
    let retries = flags.value("retries").context("--retries: is missing")?;
    let retries: u32 = retries.parse().context("--retries")?;
    let end_time = flags.value("end-within").map(time_span::parse);
    let end_time = end_time.transpose().context("--end-within")?;

    let failure = look(app, program, timeout)?;
    let mut news = None;
    let mut unhealthy = false;
    let root = StageRoot::new("/");
    AppStatus::update(&root.status_json(app), |status| {
        let before = status.state;
        status.note_health(failure.is_none(), retries);
        if let (Some(failure), State::Running | State::Unhealthy) = (&failure, before) {
            news = Some(format!("{failure}: {} in a row", status.failed_checks));
        } else if before != status.state {
            news = Some("the app is well again".to_owned());
        }
        unhealthy = status.state == State::Unhealthy;
        status.ended_as_unhealthy |= unhealthy && end_time.is_some();
        Ok(())
    })?;
    if let Some(news) = news {
        eprintln!("health: {news}");
    }
    // A stop would be systemd's reason not to start it again. When it has ended, so does this program: systemd kills it.
    if let (true, Some(time)) = (unhealthy, end_time) {
        eprintln!("health: the app is unhealthy and is ended, to be started again");
        end_within(&root, app, time)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the command with the app's root, environment, user and confinement. Gives what is wrong, if anything is.
fn look(app: &str, program: &[String], timeout: Duration) -> Result<Option<String>> {
    let mut child = Command::new("/prepare-app")
        .args(["--hook", app, "--"])
        .args(program)
        .stdin(Stdio::null())
        .spawn()
        .context("run /prepare-app")?;
    let pidfd =
        pidfd_open(pid(&child)?, PidfdFlags::empty()).context("open the command's process")?;
    if !supervisor::wait(&pidfd, Some(timeout))? {
        child.kill().context("kill the command")?;
        let time = time_span::format(timeout);
        return Ok(Some(format!("{} has not ended within {time}", program[0])));
    }
    let status = child.wait().context("wait for the command")?;
    Ok((!status.success()).then(|| format!("{} has failed ({})", program[0], told(status))))
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

fn pid(child: &Child) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.context("a child has a pid")
}
