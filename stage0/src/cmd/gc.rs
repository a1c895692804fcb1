//! `rm` and `gc`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Context;
use super::output::print;
use super::pods::Chosen;
use crate::pod::gc::{Collector, Grace};

// Options of `rm`.
#[derive(Debug, Args)]
pub(super) struct Rm {
    #[command(flatten)]
    pods: Chosen,
}

// Options of `gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {
    /// How long to keep pods after they were first found to have ended
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    grace_period: Duration,
    /// How long to keep prepared pods
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    expire_prepared: Duration,
}

impl Rm {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let collector = collector(context);
        self.pods.each(|uuid| {
            let uuid = context.pods.find(uuid)?;
            collector.remove(&uuid)?;
            print(format!("{uuid}\n"))
        })
    }
}

impl Gc {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        collector(context).collect(Grace {
            exited: self.grace_period,
            prepared: self.expire_prepared,
        })
    }
}

fn collector(context: &Context) -> Collector<'_> {
    Collector {
        pods: &context.pods,
        proc: &context.proc,
        debug: context.debug,
    }
}

/// `1h30m`, `90s`, `500ms`; `0` needs no unit.
fn duration(text: &str) -> Result<Duration> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => Ok(humantime::parse_duration(text)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("30m", 1800),
            ("1h30m", 5400),
            ("24h0m0s", 86400),
        ] {
            assert_eq!(
                duration(text).unwrap(),
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        for text in ["", "5", "-1s", "1x"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
