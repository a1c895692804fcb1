//! How it is found out whether an app is well.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::app::at_least;
use super::{choice, keys, read};

/// As dockerd's `HEALTHCHECK`, where nothing else is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// What looks whether an app is well, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The command: the app is well when it exits with 0. It runs as the app would run it.
    pub exec: Vec<String>,
    /// How long the wait between two commands is.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// After how many failures in a row the app counts as unhealthy.
    pub retries: u32,
    /// What is done with the app then.
    pub action: Action,
}

/// What is done with an unhealthy app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// It is told.
    #[default]
    None,
    /// It is started again.
    Restart,
}

impl Health {
    /// What annotations ask for; nothing without a command.
    pub(super) fn read<'a>(
        value: &impl Fn(&'static str) -> Option<&'a str>,
    ) -> Result<Option<Self>> {
        let span = |key| {
            read(key, value(key), |text| {
                at_least(Duration::from_millis(1), text)
            })
        };
        let actions = [("none", Action::None), ("restart", Action::Restart)];
        let action = value(keys::HEALTH_ACTION);
        let action = action.map(|text| choice(keys::HEALTH_ACTION, text, &actions));
        let health = Health {
            exec: Vec::new(),
            interval: span(keys::HEALTH_INTERVAL)?.unwrap_or(INTERVAL),
            timeout: span(keys::HEALTH_TIMEOUT)?.unwrap_or(TIMEOUT),
            retries: read(keys::HEALTH_RETRIES, value(keys::HEALTH_RETRIES), retries)?
                .unwrap_or(RETRIES),
            action: action.transpose()?.unwrap_or_default(),
        };
        let Some(exec) = read(keys::HEALTH_EXEC, value(keys::HEALTH_EXEC), words)? else {
            let others = [
                keys::HEALTH_INTERVAL,
                keys::HEALTH_TIMEOUT,
                keys::HEALTH_RETRIES,
                keys::HEALTH_ACTION,
            ];
            return match others.into_iter().find(|key| value(key).is_some()) {
                Some(key) => bail!("annotation {key}: needs {}", keys::HEALTH_EXEC),
                None => Ok(None),
            };
        };
        Ok(Some(Health { exec, ..health }))
    }
}

/// A command. A list, as `exec` of an app is one: no shell stands between.
fn words(text: &str) -> Result<Vec<String>> {
    let words: Option<Vec<String>> = serde_json::from_str(text).ok();
    words
        .filter(|words| !words.is_empty() && words.iter().all(|word| !word.contains('\0')))
        .with_context(|| {
            format!(
                "{text:?} must be a JSON list of words, the program first ([\"/bin/check\",\"-q\"])"
            )
        })
}

fn retries(text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{text:?} must be a number from 1"))
}
