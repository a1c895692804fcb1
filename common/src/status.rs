//! How an app ended: `rkt/status/APP` for every stage0, and `rkt/status/APP.json` with the whole story.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The status of a program that was never started, for want of a better one.
pub const NOT_RUN: i32 = 254;

/// One app's life so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The name of the app.
    pub app: String,
    /// `running` or `exited`.
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
    /// When it ended, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// What became of each isolator that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolators: Vec<IsolatorReport>,
}

/// What became of an isolator (appc specification, "Isolators": executors must make it known).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IsolatorReport {
    /// The isolator.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How it was modified, or why it was ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl IsolatorReport {
    /// Corrects what was planned by what was found in the kernel. Gives what was not as planned.
    pub fn correct(planned: &mut Vec<Self>, found: Vec<Self>) -> Vec<Self> {
        let mut news = Vec::new();
        for report in found {
            match planned.iter_mut().find(|p| p.name == report.name) {
                // In force, if perhaps not as asked.
                Some(plan) if report.outcome == Outcome::Enforced => {
                    if plan.outcome == Outcome::Ignored {
                        *plan = report;
                    }
                    continue;
                }
                None if report.outcome == Outcome::Enforced => continue,
                Some(plan) if *plan == report => continue,
                Some(plan) => *plan = report.clone(),
                None => planned.push(report.clone()),
            }
            news.push(report);
        }
        news
    }
}

impl fmt::Display for IsolatorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Enforced => "enforced",
            Outcome::Modified => "modified",
            Outcome::Ignored => "ignored",
        };
        write!(f, "isolator {} is {outcome}", self.name)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// What can become of an isolator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in force as asked.
    Enforced,
    /// It is in force in another way than asked.
    Modified,
    /// It is not in force.
    Ignored,
}

/// Whether an app runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its program was started and has not ended.
    #[default]
    Running,
    /// It has ended.
    Exited,
}

/// What systemd tells a unit's `ExecStopPost=` of the end (systemd.exec(5)).
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// `$SERVICE_RESULT`
    pub result: &'a str,
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`; none when no program ran.
    pub code: Option<&'a str>,
    /// `$EXIT_STATUS`: a number, or the name of a signal without `SIG`.
    pub status: Option<&'a str>,
}

impl AppStatus {
    /// The status of an app whose program starts now, after what is known of its earlier life.
    pub fn started(app: &str, isolators: Vec<IsolatorReport>, before: Option<AppStatus>) -> Self {
        let restarts = before.map_or(0, |b| b.restarts + 1);
        AppStatus {
            app: app.into(),
            started_at: Some(now()),
            restarts,
            isolators,
            ..AppStatus::default()
        }
    }

    /// The status after the end.
    ///
    /// # Errors
    /// When systemd says something that its manual does not list.
    #[must_use = "the ended status is returned"]
    pub fn ended(mut self, end: End<'_>) -> Result<Self> {
        self.state = State::Exited;
        self.finished_at = Some(now());
        self.result = Some(end.result.to_owned());
        match (end.code, end.status) {
            (Some("exited"), Some(status)) => {
                let code = status
                    .parse()
                    .with_context(|| format!("exit status {status:?}"))?;
                self.exit_code = Some(code);
                self.status = Some(code);
            }
            (Some(code @ ("killed" | "dumped")), Some(signal)) => {
                let number = signal_number(signal).with_context(|| format!("signal {signal:?}"))?;
                self.signal = Some(format!("SIG{signal}"));
                self.core_dumped = code == "dumped";
                self.status = Some(128 + number);
            }
            (None, _) => self.status = Some(NOT_RUN),
            (code, status) => anyhow::bail!("unknown end {code:?} {status:?}"),
        }
        Ok(self)
    }

    /// Whether the app failed, so that the pod may end with its status.
    pub fn failed(&self) -> bool {
        self.state == State::Exited && self.result.as_deref() != Some("success")
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

/// The exit status of a pod whose apps ended so: the first failing app's, else 0. An app without a status is
/// one that never came to run.
pub fn pod_exit_status(apps: &[AppStatus]) -> i32 {
    let failed = apps.iter().filter(|app| app.failed());
    let first = failed.min_by_key(|app| app.finished_at);
    first.map_or(0, |app| app.status.unwrap_or(NOT_RUN))
}

/// The number of a signal by its name without `SIG`, or of a real-time signal as systemd names it (`RTMIN+3`).
fn signal_number(name: &str) -> Option<i32> {
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+')?.parse().ok()?
        };
        return Some(nix::libc::SIGRTMIN() + offset);
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
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

    fn ended(result: &str, code: Option<&str>, status: Option<&str>) -> AppStatus {
        AppStatus::started("a", Vec::new(), None)
            .ended(End {
                result,
                code,
                status,
            })
            .unwrap()
    }

    #[test]
    fn exits_and_signals() {
        assert_eq!(ended("success", Some("exited"), Some("0")).status, Some(0));
        assert_eq!(
            ended("exit-code", Some("exited"), Some("42")).status,
            Some(42)
        );
        let killed = ended("signal", Some("killed"), Some("KILL"));
        assert_eq!(
            (killed.status, killed.signal.as_deref(), killed.exit_code),
            (Some(137), Some("SIGKILL"), None)
        );
        assert!(ended("core-dump", Some("dumped"), Some("SEGV")).core_dumped);
        assert_eq!(
            ended("signal", Some("killed"), Some("RTMIN+3")).status,
            Some(128 + 37)
        );
        assert_eq!(ended("resources", None, None).status, Some(NOT_RUN));
        let end = End {
            result: "x",
            code: Some("exited"),
            status: Some("y"),
        };
        assert!(
            AppStatus::started("a", Vec::new(), None)
                .ended(end)
                .is_err()
        );
    }

    #[test]
    fn plans_are_corrected_by_what_was_found() {
        let report = |name: &str, outcome, detail: Option<&str>| IsolatorReport {
            name: name.into(),
            outcome,
            detail: detail.map(Into::into),
        };
        use Outcome::{Enforced, Ignored, Modified};
        let mut reports = vec![
            report("kept", Modified, Some("planned")),
            report("lost", Enforced, None),
            report("other", Enforced, None),
        ];
        let found = vec![
            report("kept", Enforced, None),
            report("lost", Ignored, Some("found")),
            report("new", Ignored, None),
            report("new-and-well", Enforced, None),
        ];
        let news = IsolatorReport::correct(&mut reports, found);
        assert_eq!(
            news,
            [
                report("lost", Ignored, Some("found")),
                report("new", Ignored, None)
            ]
        );
        let texts: Vec<_> = reports.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "isolator kept is modified: planned",
                "isolator lost is ignored: found",
                "isolator other is enforced",
                "isolator new is ignored",
            ]
        );
    }

    #[test]
    fn the_pod_ends_as_the_first_that_failed() {
        let at = |mut status: AppStatus, time| {
            status.finished_at = Some(time);
            status
        };
        let good = at(ended("success", Some("exited"), Some("0")), 1);
        let second = at(ended("exit-code", Some("exited"), Some("3")), 3);
        let first = at(ended("exit-code", Some("exited"), Some("2")), 2);
        assert_eq!(pod_exit_status(&[good.clone(), second, first]), 2);
        assert_eq!(pod_exit_status(&[good]), 0);
        assert_eq!(pod_exit_status(&[]), 0);
    }

    #[test]
    fn restarts_are_counted() {
        let once = AppStatus::started("a", Vec::new(), None);
        assert_eq!(AppStatus::started("a", Vec::new(), Some(once)).restarts, 1);
    }
}
