//! CHECK: whether a network is still as it was made.

use anyhow::Result;

use super::call::{Caller, Verb};
use super::state::Attachment;

/// Has each plugin look, in the order in which they were called.
///
/// # Errors
/// What the first plugin says that is not content.
pub(super) fn check(caller: &Caller<'_>, attachment: &Attachment) -> Result<()> {
    for step in &attachment.plugins {
        let config = attachment.config(step, attachment.after(step)?);
        caller.call(Verb::Check, attachment, &step.program, &config)?;
    }
    Ok(())
}
