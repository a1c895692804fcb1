//! How an app's program ended, as systemd tells it.

use anyhow::{Context, Result};

use super::{AppStatus, State, now};

/// The status of a program that was never started, for want of a better one.
pub const NOT_RUN: i32 = 254;

/// What systemd makes of an end that is no failure.
pub const SUCCESS: &str = "success";

/// What systemd makes of an end that took too long.
pub const TIMEOUT: &str = "timeout";

/// What is made of an end that would be none, but for the app's health.
pub const UNHEALTHY: &str = "unhealthy";

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
    /// Notes the end.
    ///
    /// # Errors
    /// When systemd says something that its manual does not list.
    pub fn end(&mut self, end: End<'_>) -> Result<()> {
        self.state = match end.result {
            SUCCESS => State::Exited,
            _ => State::Failed,
        };
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
        // Whoever only sees the number must see the failure of an app that ended before it was ready, or too late.
        if self.failed() && self.status == Some(0) {
            self.status = Some(NOT_RUN);
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: &str, code: Option<&str>, status: Option<&str>) -> AppStatus {
        let mut app = AppStatus::default();
        app.start(Vec::new());
        app.end(End {
            result,
            code,
            status,
        })
        .unwrap();
        app
    }

    #[test]
    fn exits_and_signals() {
        let well = ended("success", Some("exited"), Some("0"));
        assert_eq!((well.status, well.state), (Some(0), State::Exited));
        let ill = ended("exit-code", Some("exited"), Some("42"));
        assert_eq!((ill.status, ill.state), (Some(42), State::Failed));
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
        let unready = ended("protocol", Some("exited"), Some("0"));
        assert_eq!(
            (unready.status, unready.exit_code),
            (Some(NOT_RUN), Some(0))
        );
        let end = End {
            result: "x",
            code: Some("exited"),
            status: Some("y"),
        };
        assert!(AppStatus::default().end(end).is_err());
    }
}
