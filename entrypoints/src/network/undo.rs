//! Undoes a pod's networks, from whatever process and however far their set-up has come.

use std::fs;

use anyhow::{Context, Result, bail};
use common::pod::PodDir;

use super::call::{Caller, Verb};
use super::claims;
use super::namespace;
use super::register;
use super::state::{Attachment, State};
use crate::gc::absent;

/// Calls the plugins with DEL, those that were called last first, and removes the namespace. What cannot be undone stays
/// noted, for the next attempt. Gives the networks that were undone.
///
/// # Errors
/// What plugins say, after all were called.
pub(crate) fn undo(dir: &PodDir) -> Result<Undone> {
    let Some(mut state) = State::read(dir)? else {
        return Ok(Undone(None));
    };
    let undone = state.clone();
    let containers = state.containers();
    let turn = claims::enter(&containers)?;
    let mut problems = Vec::new();
    let mut left = Vec::new();
    while let Some(attachment) = state.attachments.pop() {
        match detach(&Caller::new(dir, &state), &attachment) {
            Ok(()) => register::leave(&attachment, &state.container)?,
            Err(err) => {
                problems.push(format!("network {}: {err:#}", attachment.name));
                left.push(attachment);
            }
        }
    }
    if !problems.is_empty() {
        state.attachments = left.into_iter().rev().collect();
        state.write(dir)?;
        bail!("undo networks: {}", problems.join("; "));
    }
    containers
        .iter()
        .try_for_each(|container| claims::leave(container))?;
    drop(turn);
    namespace::remove(&state.namespace)?;
    // The state last: it names what else there is.
    for path in [dir.net_info(), dir.net_state()] {
        absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(Undone(Some(undone)))
}

/// Calls every plugin that was called, even when another one fails.
///
/// # Errors
/// What the first of them says that fails.
pub(super) fn detach(caller: &Caller<'_>, attachment: &Attachment) -> Result<()> {
    let mut failed = Ok(());
    for step in attachment.plugins[..attachment.called].iter().rev() {
        let config = attachment.config(step, attachment.after(step)?);
        let deleted = caller.call(Verb::Del, attachment, &step.program, &config);
        failed = failed.and(deleted.map(drop));
    }
    failed
}

/// What was undone.
pub(crate) struct Undone(pub(super) Option<State>);
