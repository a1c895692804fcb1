//! Runs in the pod: looks once whether an app is well, by a command of the app's, and counts what it finds. A timer
//! starts it, and systemd kills what the command has left when this has ended.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::flags::{self, Flag, switch, value};
use common::pod::StageRoot;
use common::status::{AppStatus, State};
use common::time_span;
use common::unit::app_unit;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::manager::Manager;
use crate::{print_help, supervisor};

const FLAGS: [Flag; 3] = [
    value("timeout", "SPAN", "how long the command may take"),
    value(
        "retries",
        "N",
        "after how many failures in a row the app is unhealthy",
    ),
    switch(
        "restart",
        "end an unhealthy app, so that systemd starts it again",
    ),
];
const USAGE: &str = "health --timeout=SPAN --retries=N [--restart] APP -- PROGRAM [ARGS]";
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
    let restart = flags.is_set("restart");

    let failure = look(app, program, timeout)?;
    let mut news = None;
    let mut end = false;
    AppStatus::update(&StageRoot::new("/").status_json(app), |status| {
        let before = status.state;
        status.note_health(failure.is_none(), retries);
        if let (Some(failure), State::Running | State::Unhealthy) = (&failure, before) {
            news = Some(format!("{failure}: {} in a row", status.failed_checks));
        } else if before != status.state {
            news = Some("the app is well again".to_owned());
        }
        end = restart && status.state == State::Unhealthy;
        status.ended_as_unhealthy |= end;
        Ok(())
    })?;
    if let Some(news) = news {
        eprintln!("health: {news}");
    }
    if end {
        eprintln!("health: the app is unhealthy and is ended, to be started again");
        end_app(app)?;
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

/// Ends the app as a stop would, without a stop: systemd would not start it again after one. When it has ended, so does
/// this program, which systemd kills then.
fn end_app(app: &str) -> Result<()> {
    let stopping = Manager::connect()?.stopping(&app_unit(app))?;
    // Gone meanwhile: there is nothing to do.
    let pid = i32::try_from(stopping.main_pid)
        .ok()
        .and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return Ok(());
    };
    let signal = common::sys::signal(stopping.signal).context("the app's stop signal")?;
    for (signal, time) in [(signal, Some(stopping.time)), (Signal::KILL, None)] {
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => break,
            Err(err) => return Err(err).context("signal the app"),
        }
        if supervisor::wait(&pidfd, time)? {
            break;
        }
    }
    Ok(())
}
