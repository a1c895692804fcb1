//! `attach`: the caller's streams in the place of those that an app of a running pod has for it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use common::annotation::entrypoint;

use super::Context;
use super::enter::{one_app, wait_for_pid_one};
use super::values::{self, Attachment};
use crate::pod::State;
use crate::pod::change::crossing;
use crate::pod::entrypoint::Stage1;

// Options of `attach`.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// The app; may be left out where the pod has one only
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// What to attach to: auto (all there is, default), some of stdin,stdout,stderr,tty-in,tty-out, or list, which only
    /// prints what there is
    #[arg(long, value_name = "MODE", value_parser = values::attachment)]
    mode: Option<Attachment>,
    /// The keys that end it and leave the app running, typed at a terminal; by default ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
}

impl Attach {
    /// Becomes the attach entrypoint of the pod's stage1. Returns only when that fails.
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let uuid = context.pods.find(&self.uuid)?;
        let seen = context.pods.see(&uuid, &context.proc)?;
        if seen.state != State::Running {
            bail!("attach to pod {uuid}: it is {}", seen.state.as_str());
        }
        let dir = context.pods.dir(seen.pod.place, &uuid);
        let attach = || -> Result<()> {
            let app = one_app(&dir, self.app.as_deref())?;
            let pid = wait_for_pid_one(&seen.pod.files(), &context.proc)?;
            let mut command = crossing(&Stage1::of(&dir)?, &dir, pid, entrypoint::ATTACH)?;
            command.args(self.words(&app));
            if context.debug {
                command.arg("--debug=true");
            }
            let program = Path::new(command.get_program()).display().to_string();
            Err(command.exec()).with_context(|| format!("execute {program}"))
        };
        attach().with_context(|| format!("attach to pod {uuid}"))
    }

    fn words(&self, app: &str) -> Vec<String> {
        let (action, streams) = match self.mode.as_ref().unwrap_or(&Attachment::Auto) {
            Attachment::List => ("list", &[][..]),
            Attachment::Auto => ("auto-attach", &[][..]),
            Attachment::Custom(streams) => ("custom-attach", &streams[..]),
        };
        let mut words = vec![format!("--action={action}"), format!("--app={app}")];
        words.extend(streams.iter().map(|stream| format!("--{stream}=true")));
        let keys = self.detach_keys.iter();
        words.extend(keys.map(|keys| format!("--detach-keys={keys}")));
        words
    }
}
