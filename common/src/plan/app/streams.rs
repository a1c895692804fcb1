//! Where the streams of an app lead.

use anyhow::{Result, bail};

use crate::cri_log;
use crate::load::PodApp;
use crate::plan::{Directive, Inputs};
use crate::stream::{Log, Mode, Modes, Served};
use crate::unit::{MUX_SOCKET_UNIT, MUX_UNIT};

/// The streams of an app.
pub(super) struct Streams {
    pub(super) modes: Modes,
    /// Those that are served by `iottymux`, if there are any.
    pub(super) served: Option<Served>,
}

/// The streams as the run options and the app's annotations ask.
pub(super) fn streams(inputs: &Inputs<'_>, app: &PodApp) -> Result<Streams> {
    let modes = match inputs.options.interactive {
        true => Modes::all(Mode::Interactive),
        false => Modes::read(|name| app.annotation(name))?,
    };
    if modes.any(Mode::Interactive) {
        let apps = inputs.pod.apps.len();
        if apps != 1 {
            bail!("interactive: works only in a pod of one app, this one has {apps}");
        }
        if inputs.term.is_none() {
            bail!("interactive: standard input and output must be a terminal");
        }
    }
    let log = match cri_log::directory(&inputs.pod.manifest.annotations)? {
        Some(_) => Log::Cri {
            path: cri_log::file(&app.runtime.annotations)?,
        },
        None => Log::Journal {
            uuid: inputs.uuid.to_string(),
        },
    };
    let served = Served {
        modes,
        log,
        log_attachable: app.policy.log_streams,
    };
    let any = !served.targets().is_empty();
    Ok(Streams {
        modes,
        served: any.then_some(served),
    })
}

impl Streams {
    /// The type of the app's terminal, when it has one. One to which others attach is of the type that all of today know.
    pub(super) fn term<'a>(&self, inputs: &Inputs<'a>) -> Option<&'a str> {
        match self.modes {
            modes if modes.any(Mode::Interactive) => inputs.term,
            modes if modes.any(Mode::Tty) => Some("xterm"),
            _ => None,
        }
    }

    /// What the app's unit says of `iottymux`: it is started by the first app that needs it, and stops after all that do.
    pub(super) fn dependencies(&self) -> Vec<Directive> {
        if self.served.is_none() {
            return Vec::new();
        }
        vec![
            ("Wants", MUX_SOCKET_UNIT.to_owned()),
            ("After", format!("{MUX_SOCKET_UNIT} {MUX_UNIT}")),
        ]
    }
}
