//! What the annotations of an app and its image ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::keys::{self, Place};
use super::{Action, Health, StopSignal, choice, credential, read};
use crate::annotation::DOCKER_STOP_SIGNAL;
use crate::appc::{Annotation, annotation};
use crate::time_span;

/// How long the first wait before a restart is, if nothing else is said: dockerd's.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// How long an app may take to end: that of container tools.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an app may take until it is ready: systemd's (`DefaultTimeoutStartSec=`).
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// No restart comes sooner: an app that fails at once would do nothing but start.
const SHORTEST_DELAY: Duration = Duration::from_millis(10);

/// Whether an app is started again when it has ended by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// It is not.
    #[default]
    No,
    /// When it has failed.
    OnFailure,
    /// In any case.
    Always,
}

/// How an app is kept running and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPolicy {
    /// Whether it is started again.
    pub restart: Restart,
    /// How long the first wait before that is.
    pub restart_delay: Duration,
    /// What asks it to end.
    pub stop_signal: StopSignal,
    /// How long it may take to end, and its handler `post-stop` after it.
    pub stop_timeout: Duration,
    /// How long it may take until it says that it is ready, if it says so; without an end when `None`.
    pub start_timeout: Option<Duration>,
    /// The files of the host that it gets as credentials, by the names of these.
    pub credentials: BTreeMap<String, PathBuf>,
    /// How it is found out whether it is well.
    pub health: Option<Health>,
    /// Whether output to which one can attach is logged, too.
    pub log_streams: bool,
}

impl AppPolicy {
    /// What the annotations of an app in the pod manifest and those of its image ask for.
    ///
    /// # Errors
    /// An annotation of this project's that is unknown or misplaced, or has a bad value; the message names it.
    pub fn read(runtime: &[Annotation], image: &[Annotation]) -> Result<Self> {
        keys::check(runtime, Place::App)?;
        keys::check(image, Place::Image)?;
        let value = |key| annotation(runtime, key).or_else(|| annotation(image, key));
        let span = |key, shortest| read(key, value(key), |text| at_least(shortest, text));
        let restarts = [
            ("no", Restart::No),
            ("on-failure", Restart::OnFailure),
            ("always", Restart::Always),
        ];
        let restart = value(keys::RESTART).map(|text| choice(keys::RESTART, text, &restarts));
        let signal = |key| read(key, value(key), StopSignal::parse);
        let start_timeout = read(
            keys::START_TIMEOUT,
            value(keys::START_TIMEOUT),
            |text| match text {
                "infinity" => Ok(None),
                text => at_least(Duration::from_millis(1), text).map(Some),
            },
        )?;
        let restart = restart.transpose()?.unwrap_or_default();
        let health = Health::read(&value)?;
        // A container's end by its health is no other end (as in Kubernetes), and what follows an end has one rule.
        if restart == Restart::No && health.as_ref().is_some_and(|h| h.action == Action::Restart) {
            bail!(
                "annotation {}: restart needs {} on-failure or always",
                keys::HEALTH_ACTION,
                keys::RESTART
            );
        }
        let switch = [("true", true), ("false", false)];
        let log_streams = value(keys::LOG_STREAMS);
        let log_streams = log_streams.map(|text| choice(keys::LOG_STREAMS, text, &switch));
        Ok(AppPolicy {
            restart,
            restart_delay: span(keys::RESTART_DELAY, SHORTEST_DELAY)?.unwrap_or(RESTART_DELAY),
            // What a docker image says of itself comes after what was said for this project.
            stop_signal: match signal(keys::STOP_SIGNAL)? {
                Some(signal) => signal,
                None => signal(DOCKER_STOP_SIGNAL)?.unwrap_or_default(),
            },
            stop_timeout: span(keys::STOP_TIMEOUT, Duration::from_millis(1))?
                .unwrap_or(STOP_TIMEOUT),
            start_timeout: start_timeout.unwrap_or(Some(START_TIMEOUT)),
            credentials: credential::files(runtime)?,
            health,
            log_streams: log_streams.transpose()?.unwrap_or(true),
        })
    }
}

/// A span that is not shorter than `shortest`.
pub(super) fn at_least(shortest: Duration, text: &str) -> Result<Duration> {
    let span = time_span::parse(text)?;
    if span < shortest {
        bail!("{text:?} must be at least {}", time_span::format(shortest));
    }
    Ok(span)
}
