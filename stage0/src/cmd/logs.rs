//! `logs`: what the apps of a pod have said.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::Context;
use super::output::Format;
use crate::logs::{self, Form, Wanted};

// Options of `logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Of this app only
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Go on until the pod has ended
    #[arg(short, long)]
    follow: bool,
    /// Nothing from before: a time (2026-01-31T23:59:59Z, @SECONDS), or how long ago (90s, 1h30m)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Only the newest so many of the lines that there are
    #[arg(long, value_name = "NUMBER")]
    tail: Option<usize>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    /// How to print: text, or json, which is an object a line
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
}

impl Logs {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let uuid = context.pods.find(&self.uuid)?;
        let form = Form {
            format: self.format,
            timestamps: self.timestamps,
        };
        let wanted = Wanted {
            app: self.app,
            since: self.since,
            tail: self.tail,
            follow: self.follow,
        };
        logs::show(&context.pods, &uuid, &context.proc, &wanted, form)
            .with_context(|| format!("logs of pod {uuid}"))
    }
}

/// A time, or a time before now.
fn since(text: &str) -> Result<SystemTime> {
    let range = "is before all time";
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: f64 = seconds.parse().context("must be @ and seconds")?;
        let since = Duration::try_from_secs_f64(seconds).context(range)?;
        return UNIX_EPOCH.checked_add(since).context(range);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).context(range);
    }
    match humantime::parse_rfc3339_weak(text) {
        Ok(time) => Ok(time),
        Err(_) => bail!("must be a time like 2026-01-31T23:59:59Z or @SECONDS, or a span like 10m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = |seconds: f64| UNIX_EPOCH + Duration::from_secs_f64(seconds);
        for (text, expected) in [
            ("@1.5", at(1.5)),
            ("1970-01-01T00:01:00Z", at(60.0)),
            ("1970-01-01 00:01:00", at(60.0)),
        ] {
            assert_eq!(since(text).unwrap(), expected, "{text}");
        }
        let hour = SystemTime::now() - Duration::from_secs(3600);
        let apart = since("1h").unwrap().duration_since(hour).unwrap();
        assert!(apart < Duration::from_secs(600), "{apart:?}");
        for text in ["", "x", "@", "@-1", "@1e30", "10", "yesterday"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
