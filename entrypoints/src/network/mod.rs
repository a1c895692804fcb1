//! The pod's networks: a network namespace of its own, pinned under a name so that every later process finds it, and in
//! it what plugins make by the CNI protocol.
//!
//! Each change of the host is written to the pod directory before it is made ([`state`]), so that a start that fails or is
//! killed, and gc in the end, undo it with the configuration that it was made with.

mod added;
mod call;
mod check;
mod claims;
mod held;
mod lock;
mod namespace;
mod plan;
mod register;
mod state;
mod undo;

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use common::apply::write_whole;
use common::net::{Outcome, Reached, Version};
use common::pod::PodDir;
use serde_json::Value;

use call::{Caller, Verb};
use plan::Prepared;
use state::{Attachment, State};

pub(crate) use added::{forward, unforward};
pub(crate) use namespace::join;
pub(crate) use plan::{Wishes, prepare};
pub(crate) use state::reached;
pub(crate) use undo::undo;

/// What was set up for a pod. Dropped, it is undone.
pub(crate) struct Networks<'a> {
    dir: &'a PodDir,
    state: State,
    /// The ports of the host that lead to the pod, held so that nobody else takes them.
    pub(crate) ports: Vec<OwnedFd>,
}

impl Drop for Networks<'_> {
    fn drop(&mut self) {
        // The error that is reported is the one that came first.
        if let Err(err) = undo(self.dir) {
            eprintln!("init: warning: {err:#}");
        }
    }
}

impl Prepared {
    /// Makes the namespace and the networks of the pod in `dir`, which has the cgroup.
    ///
    /// # Errors
    /// What a plugin says; everything has been undone then.
    pub(crate) fn set_up<'a>(self, dir: &'a PodDir, cgroup: &Path) -> Result<Networks<'a>> {
        // Of a start that was killed.
        undo(dir)?;
        let mut networks = Networks {
            dir,
            state: self.state,
            ports: self.ports,
        };
        networks.state.write(dir)?;
        let forwarding = self.attachments.iter().find(|a| a.forwards());
        if let Some(forwarding) = forwarding {
            let ports = (cgroup, self.forwards);
            claims::claim(dir, &networks.state, forwarding, ports)?;
        }
        namespace::make(&networks.state.namespace, self.users)?;
        let mut outcomes = Vec::new();
        for attachment in self.attachments {
            let _turn = register::enter(&attachment, &networks.state.container)?;
            networks.state.attachments.push(attachment);
            outcomes.push(attach_last(&mut networks.state, dir)?);
        }
        networks.state.reached = Reached::of(&outcomes);
        networks.state.write(dir)?;
        networks.tell(&outcomes)?;
        Ok(networks)
    }
}

impl Networks<'_> {
    /// What the networks have come to.
    pub(crate) fn reached(&self) -> &Reached {
        &self.state.reached
    }

    /// Has the plugins look whether all is as they made it (CHECK), as far as they know how to.
    ///
    /// # Errors
    /// What a plugin says.
    pub(crate) fn check(&self) -> Result<()> {
        let caller = Caller::new(self.dir, &self.state);
        for attachment in &self.state.attachments {
            if attachment.check && attachment.version >= Version::CHECK {
                check::check(&caller, attachment)
                    .with_context(|| format!("network {}", attachment.name))?;
            }
        }
        Ok(())
    }

    /// Tells stage0s what networks the pod has.
    fn tell(&self, outcomes: &[Outcome]) -> Result<()> {
        let attachments = self.state.attachments.iter();
        let infos: Vec<_> = attachments
            .zip(outcomes)
            .map(|(attachment, outcome)| attachment.info(outcome, &self.state.folders))
            .collect();
        let mut json = serde_json::to_string_pretty(&infos)?;
        json.push('\n');
        let path = self.dir.net_info();
        write_whole(&path, json.as_bytes(), 0o644)
            .with_context(|| format!("write {}", path.display()))
    }

    /// One line for each network, as `--debug` prints them.
    pub(crate) fn lines(&self) -> Vec<String> {
        let attachments = self.state.attachments.iter();
        attachments.map(Attachment::line).collect()
    }
}

/// Calls the plugins of the network that was added last, each with the answer of the one before.
fn attach_last(state: &mut State, dir: &PodDir) -> Result<Outcome> {
    let at = state.attachments.len() - 1;
    let context = format!("network {}", state.attachments[at].name);
    for number in 0..state.attachments[at].plugins.len() {
        state.attachments[at].called = number + 1;
        state.write(dir)?;
        let caller = Caller::new(dir, state);
        let attachment = &state.attachments[at];
        let plugin = &attachment.plugins[number];
        let config = attachment.config(plugin, attachment.before(plugin)?);
        let add = || -> Result<(Value, Outcome)> {
            let answer = caller.call(Verb::Add, attachment, &plugin.program, &config)?;
            let answer: Value = serde_json::from_slice(&answer)
                .with_context(|| not_json(&plugin.program, &answer))?;
            let outcome = Outcome::parse(answer.clone(), attachment.spoken(plugin))
                .with_context(|| format!("plugin {}", plugin.program))?;
            Ok((answer, outcome))
        };
        let (answer, outcome) = add().with_context(|| context.clone())?;
        let of_list = !plugin.added;
        let attachment = &mut state.attachments[at];
        attachment.outcome = Some(outcome);
        if of_list {
            attachment.answer = Some(answer);
        }
    }
    let outcome = state.attachments[at].outcome.clone();
    Ok(outcome.unwrap_or_default())
}

/// What a plugin has answered in place of JSON: its beginning.
fn not_json(plugin: &str, answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text: String = text.trim().chars().take(80).collect();
    format!("plugin {plugin}: its answer {text:?} is not JSON")
}
