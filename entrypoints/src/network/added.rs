//! Ports of the host that lead to apps which come to a running pod and go.

use std::path::Path;

use anyhow::{Context, Result};
use common::load::Pod;
use common::net::forwards_to;
use common::pod::PodDir;

use super::call::Caller;
use super::state::{Attachment, State};
use super::undo::detach;
use super::{attach_last, claims, held, plan};

/// The ports of an app that was added. Dropped, they lead to it no more, unless they are kept.
pub(crate) struct Forwarded<'a> {
    dir: &'a PodDir,
    app: &'a str,
    kept: bool,
}

impl Forwarded<'_> {
    /// Leaves them as they are.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Forwarded<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The error that is reported is the one that came first.
        if let Err(err) = unforward(self.dir, self.app) {
            eprintln!("app-add: warning: {err:#}");
        }
    }
}

/// Leads the ports of the host that the manifest names to an app that is added to the running pod, which has the cgroup.
/// Nothing where no plugin makes the pod's network.
///
/// # Errors
/// A port that cannot be had, or what a plugin says; everything has been undone then.
pub(crate) fn forward<'a>(
    dir: &'a PodDir,
    pod: &Pod,
    app: &'a str,
    cgroup: Option<&Path>,
) -> Result<Forwarded<'a>> {
    // Of an addition or a removal that was killed.
    unforward(dir, app)?;
    let kept = false;
    let forwarded = Forwarded { dir, app, kept };
    let forwards = forwards_to(pod, app)?;
    let (Some(mut state), false) = (State::read(dir)?, forwards.is_empty()) else {
        return Ok(forwarded);
    };
    let cgroup = cgroup.context("the pod has no cgroup")?;
    // Nothing stays of this process that could hold them: others are told as long as the pod is known to have them.
    held::hold(&forwards)?;
    let attachment = plan::of_app(&state, app, &forwards)?;
    state.attachments.push(attachment.clone());
    state.write(dir)?;
    claims::claim(dir, &state, &attachment, (cgroup, forwards))?;
    attach_last(&mut state, dir)?;
    Ok(forwarded)
}

/// Has no port of the host lead to an app that was added. Done again, it does what is left to do.
///
/// # Errors
/// What a plugin says; the next attempt goes on from there.
pub(crate) fn unforward(dir: &PodDir, app: &str) -> Result<()> {
    let Some(mut state) = State::read(dir)? else {
        return Ok(());
    };
    let of_app = |a: &Attachment| a.app.as_deref() == Some(app);
    let Some(at) = state.attachments.iter().position(of_app) else {
        return Ok(());
    };
    let attachment = &state.attachments[at];
    let container = attachment.container(&state.container);
    let _turn = claims::enter(std::slice::from_ref(&container))?;
    detach(&Caller::new(dir, &state), attachment)
        .with_context(|| format!("network {}", attachment.name))?;
    claims::leave(&container)?;
    state.attachments.remove(at);
    state.write(dir)
}
