//! Runs in the pod: after an app has ended it writes the app's status; as the pod is up it says so.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use common::apply::write_whole;
use common::flags::{self, Flag, switch};
use common::pod::{SUPERVISOR_READY, StageRoot};
use common::status::{AppStatus, End};
use common::unit::app_unit;

use crate::{journal, manager, print_help};

const FLAGS: [Flag; 1] = [switch(
    "supervisor-ready",
    "make the link that says that the pod is up",
)];
const USAGE: &str = "reaper APP | --supervisor-ready";
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
        [app] => reap(&root, app),
        _ => bail!("needs one app, see --help"),
    };
    done.inspect_err(|err| journal::log_error("reaper", app, &format!("{err:#}")))
}

/// Writes how the app ended. The decimal file comes last: who waits for it finds the other one whole.
fn reap(root: &StageRoot, app: &str) -> Result<ExitCode> {
    let variable = |name: &str| std::env::var(name).ok();
    let (result, code, status) = (
        variable("SERVICE_RESULT"),
        variable("EXIT_CODE"),
        variable("EXIT_STATUS"),
    );
    let mut end = End {
        result: result.as_deref().context("SERVICE_RESULT: must be set")?,
        code: code.as_deref(),
        status: status.as_deref(),
    };
    let killed = killed_unasked(app, end);
    if killed {
        end.result = "signal";
    }
    let path = root.status_json(app);
    let before = AppStatus::read(&path)?.unwrap_or_else(|| AppStatus {
        app: app.into(),
        ..AppStatus::default()
    });
    let ended = before.ended(end)?;
    write_whole(&path, ended.to_json()?.as_bytes(), 0o644)?;
    let decimal = ended
        .status
        .context("an ended app has a status")?
        .to_string();
    write_whole(&root.status(app), decimal.as_bytes(), 0o644)?;
    // The unit fails with its ExecStopPost=.
    Ok(if killed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether the app was killed by a signal that systemd takes for a clean end (SIGTERM, SIGINT, SIGHUP, SIGPIPE:
/// systemd.service(5), `SuccessExitStatus=`), although nobody asked systemd to stop it. To a pod this is a failure.
fn killed_unasked(app: &str, end: End<'_>) -> bool {
    if end.code != Some("killed") || end.result != "success" {
        return false;
    }
    match manager::is_asked_to_stop(&app_unit(app)) {
        Ok(asked) => !asked,
        Err(err) => {
            journal::log_error("reaper", Some(app), &format!("{err:#}"));
            false
        }
    }
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
