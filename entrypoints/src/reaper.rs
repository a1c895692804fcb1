//! Runs in the pod: after an app has ended it writes the app's status, and before the app starts again it waits; an app that
//! has little time to end it ends; as the pod is up it says so.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::apply::write_whole;
use common::cgroup::Hierarchies;
use common::flags::{self, Flag, Parsed, switch, value};
use common::main_process::MainProcess;
use common::pod::{SUPERVISOR_READY, StageRoot};
use common::status::{AppStatus, End, SUCCESS, State, TIMEOUT, UNHEALTHY};
use common::time_span;
use common::unit::{app_unit, passed_unit, socket_unit};
use common::usage::oom_kills;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ending::end_within;
use crate::manager::Manager;
use crate::start_report::Teller;
use crate::{journal, notify, print_help};

const FLAGS: [Flag; 8] = [
    switch("ready", "note that APP has said that it is ready"),
    switch(
        "note",
        "only note the end: a handler comes after it, and then another call",
    ),
    value(
        "restart",
        "POLICY",
        "systemd starts APP again: on-failure or always",
    ),
    value("delay", "SPAN", "the first wait before that"),
    switch("back-off", "wait until APP is to be started again"),
    switch(
        "close-sockets",
        "close the pod's copies of the sockets of APP, if it is being stopped",
    ),
    value(
        "end-within",
        "SPAN",
        "end APP, which is being stopped, and kill it when it takes longer",
    ),
    switch(
        "supervisor-ready",
        "make the link that says that the pod is up",
    ),
];
/// How long the note of an end may take. The limit of the stop is for the app.
const NOTING: Duration = Duration::from_secs(90);

const USAGE: &str = "reaper [OPTIONS] APP | --supervisor-ready";
const ABOUT: &str =
    "Writes the exit status of APP, which systemd gives in its environment (ExecStopPost=).";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let root = StageRoot::new("/");
    let app = flags.rest.first().map(String::as_str);
    let done = match flags.rest.as_slice() {
        [] if flags.is_set("supervisor-ready") => supervisor_ready(&root),
        [app] if flags.is_set("ready") => note_ready(&root, app),
        [app] if flags.is_set("back-off") => back_off(&root, app),
        [app] if flags.is_set("close-sockets") => close_sockets(app),
        [app] => match flags.value("end-within") {
            Some(time) => end(&root, app, time),
            None => reap(&root, app, &flags),
        },
        _ => bail!("needs one app, see --help"),
    };
    done.inspect_err(|err| journal::log_error("reaper", app, &format!("{err:#}")))
}

/// Writes how the app ended, if a call before this one has not, and what follows from it. The decimal file comes last:
/// who waits for it finds the other one whole.
fn reap(root: &StageRoot, app: &str, flags: &Parsed) -> Result<ExitCode> {
    // First of all: what systemd ends here is an end that nobody knows of.
    if let Err(err) = notify::extend_limit(NOTING) {
        journal::log_error("reaper", Some(app), &format!("{err:#}"));
    }
    let result = std::env::var("SERVICE_RESULT").context("SERVICE_RESULT: must be set")?;
    let last = !flags.is_set("note");
    let delay = flags.value("delay").map(time_span::parse).transpose()?;
    // The wait for a restart was cut short: no program has run since the end that is noted.
    let mut waited = false;
    let status = AppStatus::update(&root.status_json(app), |status| {
        waited = status.restart_at.is_some();
        if !status.has_ended() {
            note_end(status, app, &result)?;
        }
        if !last {
            return Ok(());
        }
        status.restart_at = None;
        let restart = match flags.value("restart") {
            Some("always") => true,
            Some("on-failure") => status.failed(),
            _ => false,
        };
        if let (true, Some(delay)) = (restart && !waited && !asked_to_stop(app), delay) {
            status.plan_restart(delay);
        }
        Ok(())
    })?;
    let decimal = status.status.context("an ended app has a status")?;
    write_whole(&root.status(app), decimal.to_string().as_bytes(), 0o644)?;
    if last {
        Teller::open(app).ended();
    }
    // The unit fails with its last ExecStopPost=, and so follows what was found here.
    if last && !waited && status.failed() && result == SUCCESS {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn note_end(status: &mut AppStatus, app: &str, result: &str) -> Result<()> {
    let (code, exit) = (
        std::env::var("EXIT_CODE").ok(),
        std::env::var("EXIT_STATUS").ok(),
    );
    // systemd takes some signals for a clean end (SIGTERM, SIGINT, SIGHUP, SIGPIPE, and the one that is to stop the app:
    // systemd.service(5), `SuccessExitStatus=`). To a pod it is a failure when nobody asked for the end.
    let killed = result == SUCCESS && code.as_deref() == Some("killed") && !asked_to_stop(app);
    let unhealthy = result == SUCCESS && status.ended_as_unhealthy;
    let late = result == TIMEOUT || status.killed_as_late;
    status.end(End {
        result: match exit.as_deref() {
            Some("KILL") if late => TIMEOUT,
            Some("KILL") if out_of_memory(app) => "oom-kill",
            _ if unhealthy => UNHEALTHY,
            _ if killed => "signal",
            _ => result,
        },
        code: code.as_deref(),
        status: exit.as_deref(),
    })
}

/// Whether the kernel killed the app for want of memory. systemd, too, would say so, but it ends an app then in which only a
/// child was killed (`OOMPolicy=`).
fn out_of_memory(app: &str) -> bool {
    let hierarchies = Hierarchies::read(Path::new("/proc")).unwrap_or_default();
    oom_kills(&hierarchies, &app_unit(app)) > 0
}

/// Whether systemd was asked to stop the app. What it cannot be asked is taken for that, which changes least.
fn asked_to_stop(app: &str) -> bool {
    ask(app, Manager::is_asked_to_stop, true)
}

/// What systemd says of the app's unit; `otherwise` when it cannot be asked.
fn ask(app: &str, question: fn(&mut Manager, &str) -> Result<bool>, otherwise: bool) -> bool {
    let answer = Manager::connect().and_then(|mut manager| question(&mut manager, &app_unit(app)));
    answer.unwrap_or_else(|err| {
        journal::log_error("reaper", Some(app), &format!("{err:#}"));
        otherwise
    })
}

/// Waits until the app is to be started again. systemd 252 has only restarts after a time that is always the same
/// (`RestartSteps=` came with 254), so its own wait is none and this program is the first of each start.
fn back_off(root: &StageRoot, app: &str) -> Result<ExitCode> {
    notify::lift_limit()?;
    let path = root.status_json(app);
    let before = AppStatus::read(&path)?.unwrap_or_default();
    // Somebody who starts an app that was stopped meanwhile is not kept waiting.
    let waits = before.restart_at.is_some() && ask(app, Manager::is_restart, true);
    if waits && !wait(app, before.wait_left())? {
        // The app is being stopped; that it waited is told to what comes then.
        return Ok(ExitCode::SUCCESS);
    }
    AppStatus::update(&path, |status| {
        status.restart_at = None;
        status.state = State::Created;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for a time; false when the app is stopped first. The signal for that is the app's own choice, so each one counts;
/// one that came before they were held may have had no effect. Before the signal this program must not end: systemd, which
/// does not stop the app until its turn comes, would start it.
fn wait(app: &str, time: Duration) -> Result<bool> {
    let signals = SigSet::all();
    signals.thread_block().context("hold signals")?;
    let signals = SignalFd::new(&signals).context("wait for signals")?;
    if ask(app, Manager::is_being_stopped, false) {
        return Ok(false);
    }
    let time = Timespec::try_from(time).context("wait for the restart")?;
    let mut fds = [PollFd::new(&signals, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&time)).context("wait for the restart")?;
    Ok(ready == 0)
}

/// Has systemd stop listening for an app that is about to get its stop signal. systemd calls this as well when the app has
/// ended of its own accord: it may be started again then, and the sockets wait for that.
fn close_sockets(app: &str) -> Result<ExitCode> {
    if ask(app, Manager::is_asked_to_stop, false) {
        let mut manager = Manager::connect()?;
        for unit in [socket_unit(app), passed_unit(app)] {
            manager.stop_at_once(&unit)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends an app that has less time for it than its unit. systemd calls this as well when the app has ended of its own accord,
/// and gives no `$MAINPID` then.
fn end(root: &StageRoot, app: &str, time: &str) -> Result<ExitCode> {
    let time = time_span::parse(time).context("--end-within")?;
    if std::env::var_os("MAINPID").is_some() {
        end_within(root, app, time)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes when the app was ready, and which process is its main one now.
fn note_ready(root: &StageRoot, app: &str) -> Result<ExitCode> {
    note_main(root, app)?;
    AppStatus::update(&root.status_json(app), |status| {
        status.become_ready();
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An app may have named another process than its first (`MAINPID=`, sd_notify(3)), which systemd tells in `$MAINPID`. It
/// takes any process of the pod from root; who enters the app is led to none that is not of the app.
fn note_main(root: &StageRoot, app: &str) -> Result<()> {
    let Ok(main) = std::env::var("MAINPID") else {
        return Ok(());
    };
    let proc = Path::new("/proc");
    let cgroup = |process: &str| std::fs::read(proc.join(process).join("cgroup"));
    // This program is in the unit's cgroup, too.
    let own = cgroup("self").context("read this process's cgroup")?;
    if cgroup(&main).is_ok_and(|cgroup| cgroup == own) {
        // It may have ended just now.
        if let Ok(process) = MainProcess::called(proc, &main) {
            let process = process.to_string();
            write_whole(&root.main_process(app), process.as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

fn supervisor_ready(root: &StageRoot) -> Result<ExitCode> {
    let path = root.supervisor_status();
    if std::fs::read_link(&path).is_ok_and(|target| target == Path::new(SUPERVISOR_READY)) {
        return Ok(ExitCode::SUCCESS);
    }
    symlink(SUPERVISOR_READY, &path)
        .with_context(|| format!("make the link {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
