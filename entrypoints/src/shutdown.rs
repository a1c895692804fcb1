//! The last program of the pod: PID 1 becomes it when all apps have been stopped and its own work is done. In the image
//! it is what the path of `systemd-shutdown` leads to.
//!
//! It makes the journal complete and ends with the exit status of the pod, which systemd-nspawn passes on. The kernel
//! then kills what is left of the pod, journald last of all that logs: systemd's own program would stop journald first
//! and unmount the pod's file systems one by one, which go away with its mount namespace anyway.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::pod::StageRoot;
use common::status::{AppStatus, NOT_RUN, State, pod_exit_status};
use rustix::fs::{Mode, OFlags};

use crate::journal;

/// Where people look. PID 1 has closed its own streams long since.
const CONSOLE: &str = "/dev/console";

/// Runs the program. The arguments, which say what a machine would do now and how to log, don't matter to a pod.
pub fn run(_: Vec<OsString>) -> Result<ExitCode> {
    if let Err(err) = journal::synchronize() {
        tell(&format!("{err:#}"));
    }
    let apps =
        statuses(&StageRoot::new("/").statuses()).inspect_err(|err| tell(&format!("{err:#}")))?;
    apps.iter().filter_map(remark).for_each(|line| tell(&line));
    let status = pod_exit_status(&apps);
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// Writes a line to the console. The pod ends the same way without one, and with one that takes nothing now.
fn tell(line: &str) {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open(CONSOLE, flags, Mode::empty()) {
        let _ = writeln!(File::from(console), "shutdown: {line}");
    }
}

/// What is in the folder `dir`.
fn statuses(dir: &Path) -> Result<Vec<AppStatus>> {
    let mut apps = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("read {}", dir.display()))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            apps.extend(AppStatus::read(&path)?);
        }
    }
    Ok(apps)
}

/// Where an app's status comes from no program of it, why that is what it is: nothing else on the console says so.
fn remark(app: &AppStatus) -> Option<String> {
    let name = &app.app;
    let result = app.result.as_deref().unwrap_or_default();
    match (app.state, app.status, app.exit_code) {
        (State::Running | State::Unhealthy, ..) => Some(format!(
            "app {name}: how it ended could not be noted; is the disk full?"
        )),
        (State::Failed, Some(NOT_RUN), None) => {
            Some(format!("app {name}: it was not started: {result}"))
        }
        (State::Failed, Some(NOT_RUN), Some(code)) if code != NOT_RUN => Some(format!(
            "app {name}: it exited with status {code}, which is a failure here: {result}"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use common::status::End;

    use super::*;

    #[test]
    fn statuses_of_no_program_are_explained() {
        let ended = |result, code, status| {
            let mut app = AppStatus::default();
            "web".clone_into(&mut app.app);
            app.start(Vec::new());
            let running = remark(&app);
            app.end(End {
                result,
                code,
                status,
            })
            .unwrap();
            (running, remark(&app))
        };
        let exited = Some("exited");
        let (running, resources) = ended("resources", None, None);
        assert_eq!(
            running.unwrap(),
            "app web: how it ended could not be noted; is the disk full?"
        );
        assert_eq!(resources.unwrap(), "app web: it was not started: resources");
        assert_eq!(
            ended("protocol", exited, Some("0")).1.unwrap(),
            "app web: it exited with status 0, which is a failure here: protocol"
        );
        assert_eq!(ended("exit-code", exited, Some("254")).1, None);
        assert_eq!(ended("success", exited, Some("0")).1, None);
    }
}
