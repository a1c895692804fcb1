//! How an app is and how it ended: `rkt/status/APP` for every stage0, and `rkt/status/APP.json` with the whole story.

mod end;
mod report;
mod restart;

use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::apply::write_whole;

pub use end::{End, NOT_RUN, SUCCESS, TIMEOUT, UNHEALTHY};
pub use report::{IsolatorReport, Outcome};

/// One app's life so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The name of the app.
    pub app: String,
    /// Where in its life it is.
    pub state: State,
    /// What `rkt/status/APP` says: the exit code, 128+signal when killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// The exit code, when the program exited by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The name of the signal that ended it, `SIGKILL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it left a core dump.
    #[serde(default)]
    pub core_dumped: bool,
    /// What systemd makes of it: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, … (the list is in
    /// systemd.exec(5) at `$SERVICE_RESULT`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When it was started last, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<u64>,
    /// When it said that it is ready, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<u64>,
    /// When it ended, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// When it is to be started again, in nanoseconds since 1970, from its end to the end of the wait for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<u64>,
    /// How long the last such wait is, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<u64>,
    /// How many of its health commands have failed in a row.
    #[serde(default)]
    pub failed_checks: u32,
    /// Whether it was made to end because it was unhealthy: the end is a failure then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_as_unhealthy: bool,
    /// Whether a program of this pod killed it because it had not ended in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub killed_as_late: bool,
    /// What became of each isolator that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolators: Vec<IsolatorReport>,
}

/// Where in its life an app is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there, and its program is yet to be started, for the first time or again.
    #[default]
    Created,
    /// Its program was started and has not ended.
    Running,
    /// It runs, and its health command says that it is not well.
    Unhealthy,
    /// It has ended well.
    Exited,
    /// It has ended otherwise, or could not be started.
    Failed,
}

impl AppStatus {
    /// Notes that the app's program starts now.
    pub fn start(&mut self, isolators: Vec<IsolatorReport>) {
        let again = self.started_at.is_some();
        *self = AppStatus {
            app: std::mem::take(&mut self.app),
            state: State::Running,
            started_at: Some(now()),
            restarts: self.restarts + u32::from(again),
            back_off: self.back_off,
            isolators,
            ..AppStatus::default()
        };
    }

    /// Notes that the app has just said that it is ready.
    pub fn become_ready(&mut self) {
        self.ready_at = Some(now());
    }

    /// Notes what a health command has found, `retries` failures in a row being too many. An app that does not run has no
    /// health.
    pub fn note_health(&mut self, well: bool, retries: u32) {
        if !matches!(self.state, State::Running | State::Unhealthy) {
            return;
        }
        self.failed_checks = if well {
            0
        } else {
            self.failed_checks.saturating_add(1)
        };
        if well {
            self.state = State::Running;
        } else if self.failed_checks >= retries {
            self.state = State::Unhealthy;
        }
    }

    /// Whether it has ended, well or not.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Exited | State::Failed)
    }

    /// Whether the app failed, so that the pod may end with its status.
    pub fn failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Changes the status in the file at `path`, one program after the other. Gives the changed one.
    ///
    /// # Errors
    /// That of `change`, or a file that cannot be read or written.
    pub fn update(path: &Path, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let context = || format!("update {}", path.display());
        // The file is replaced, so its folder is what can be locked.
        let dir = File::open(path.parent().with_context(context)?).with_context(context)?;
        flock(&dir, FlockOperation::LockExclusive).with_context(context)?;
        let app = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut status = Self::read(path)?.unwrap_or_else(|| AppStatus {
            app: app.into_owned(),
            ..AppStatus::default()
        });
        change(&mut status)?;
        write_whole(path, status.to_json()?.as_bytes(), 0o644)?;
        Ok(status)
    }

    /// Reads what was written; `None` when there is nothing yet.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let content = match std::fs::read(path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            content => content.with_context(|| format!("read {}", path.display()))?,
        };
        let status =
            serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))?;
        Ok(Some(status))
    }

    /// As the file keeps it.
    pub fn to_json(&self) -> Result<String> {
        let mut json = serde_json::to_string_pretty(self).context("write a status as JSON")?;
        json.push('\n');
        Ok(json)
    }
}

/// The exit status of a pod that has ended, whose apps ended so: the first failing app's, else 0. An app that is started
/// again after it failed ends no pod, so its failure counts only when no other app has failed. One whose end could not be
/// noted, as on a full disk, may have failed.
pub fn pod_exit_status(apps: &[AppStatus]) -> i32 {
    let failed = apps.iter().filter(|app| app.failed());
    let first = failed.min_by_key(|app| (app.back_off.is_some(), app.finished_at));
    let unknown = apps
        .iter()
        .any(|app| matches!(app.state, State::Running | State::Unhealthy));
    let otherwise = if unknown { NOT_RUN } else { 0 };
    first.map_or(otherwise, |app| app.status.unwrap_or(NOT_RUN))
}

fn now() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: &str, status: &str, time: u64) -> AppStatus {
        let mut app = AppStatus::default();
        app.start(Vec::new());
        app.end(End {
            result,
            code: Some("exited"),
            status: Some(status),
        })
        .unwrap();
        app.finished_at = Some(time);
        app
    }

    #[test]
    fn the_pod_ends_as_the_first_that_failed() {
        let good = ended("success", "0", 1);
        let second = ended("exit-code", "3", 3);
        let first = ended("exit-code", "2", 2);
        let mut waiting = ended("exit-code", "4", 0);
        waiting.plan_restart(std::time::Duration::from_secs(1));
        let all = [good.clone(), second, waiting.clone(), first];
        assert_eq!(pod_exit_status(&all), 2);
        assert_eq!(pod_exit_status(&[good.clone(), waiting]), 4);
        let mut unknown = AppStatus::default();
        unknown.start(Vec::new());
        assert_eq!(pod_exit_status(&[good.clone(), unknown]), 254);
        assert_eq!(pod_exit_status(&[good]), 0);
        assert_eq!(pod_exit_status(&[]), 0);
    }

    #[test]
    fn a_start_forgets_the_end_and_counts() {
        let mut app = ended("exit-code", "3", 3);
        app.plan_restart(std::time::Duration::from_secs(1));
        app.start(Vec::new());
        assert_eq!((app.restarts, app.state), (1, State::Running));
        assert_eq!((app.status, app.result, app.restart_at), (None, None, None));
        assert_eq!(app.back_off, Some(1_000_000_000));
    }

    #[test]
    fn failures_in_a_row_make_an_app_unhealthy() {
        let mut app = AppStatus::default();
        app.note_health(false, 1);
        assert_eq!((app.state, app.failed_checks), (State::Created, 0));
        app.start(Vec::new());
        for (well, state) in [
            (false, State::Running),
            (true, State::Running),
            (false, State::Running),
            (false, State::Unhealthy),
            (false, State::Unhealthy),
            (true, State::Running),
        ] {
            app.note_health(well, 2);
            assert_eq!(app.state, state);
        }
        assert_eq!(app.failed_checks, 0);
    }

    #[test]
    fn no_update_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let add = |status: &mut AppStatus| {
                            status.restarts += 1;
                            Ok(())
                        };
                        AppStatus::update(&path, add).unwrap();
                    }
                });
            }
        });
        let status = AppStatus::read(&path).unwrap().unwrap();
        assert_eq!((status.restarts, status.app.as_str()), (160, "web"));
        let refused = AppStatus::update(&path, |_| anyhow::bail!("no"));
        assert!(refused.is_err());
        assert_eq!(AppStatus::read(&path).unwrap(), Some(status));
    }
}
