//! What the annotations `stage1/KEY` ask for: how apps and pods start again, stop and end. They are this project's own,
//! as the appc specification has no such thing; [`keys`] lists them.
//!
//! An annotation of the app in the pod manifest wins over the same one of its image: an image brings what suits its
//! program, and who runs it decides.

mod app;
mod credential;
mod health;
pub mod keys;
mod signal;

use anyhow::{Context, Result, bail, ensure};

use crate::appc::{Annotation, annotation};
use crate::isolate::quantity::Quantity;
use keys::Place;

pub use app::{AppPolicy, Restart};
pub use credential::{Credentials, MAX as CREDENTIALS_MAX};
pub use health::{Action, Health};
pub use signal::StopSignal;

/// When a pod ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// As soon as one app fails, or all have ended (contract.md, "Exit").
    #[default]
    OnAnyFailure,
    /// As soon as one app ends.
    OnAny,
    /// When all apps have ended.
    UntilAll,
}

impl ExitPolicy {
    /// What a pod manifest asks for, if it asks.
    ///
    /// # Errors
    /// An annotation of this project's that is unknown, of apps, or has a bad value; the message names it.
    pub fn of_pod(annotations: &[Annotation]) -> Result<Option<Self>> {
        keys::check(annotations, Place::Pod)?;
        let choices = [
            ("on-any-failure", Self::OnAnyFailure),
            ("on-any", Self::OnAny),
            ("until-all", Self::UntilAll),
        ];
        let value = annotation(annotations, keys::EXIT_POLICY);
        value
            .map(|value| choice(keys::EXIT_POLICY, value, &choices))
            .transpose()
    }
}

/// The least that journald can keep to: some files of the least size that it makes, in bytes.
const SMALLEST_JOURNAL: u64 = 4 << 20;

/// How large a pod's journal may become, in bytes, if its manifest says so.
///
/// # Errors
/// A bad value; the message names the annotation.
pub fn journal_max_size(annotations: &[Annotation]) -> Result<Option<u64>> {
    let value = annotation(annotations, keys::JOURNAL_MAX_SIZE);
    read(keys::JOURNAL_MAX_SIZE, value, |text| {
        let size = text.parse::<Quantity>().map(Quantity::units);
        let size = size.with_context(|| format!("{text:?}"))?;
        ensure!(size >= SMALLEST_JOURNAL, "{text:?}: must be 4Mi at least");
        Ok(size)
    })
}

/// One of the words that an annotation can have.
fn choice<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
    match choices.iter().find(|(word, _)| *word == value) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            bail!(
                "annotation {key}: {value:?} must be one of {}",
                words.join(", ")
            )
        }
    }
}

/// The value of an annotation, read by `read`, whose errors get the annotation's name.
fn read<T>(
    key: &str,
    value: Option<&str>,
    read: impl FnOnce(&str) -> Result<T>,
) -> Result<Option<T>> {
    let read = value.map(read).transpose();
    read.with_context(|| format!("annotation {key}"))
}

#[cfg(test)]
mod tests;
