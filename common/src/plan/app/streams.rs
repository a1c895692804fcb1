//! Where the streams of an app lead.

use anyhow::{Result, bail};

use crate::annotation;
use crate::load::PodApp;
use crate::plan::Inputs;

/// Where a stream of an app leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Null,
    Log,
    Terminal,
}

/// The streams of an app.
pub(super) struct Streams {
    pub(super) stdin: Stream,
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
}

/// The streams as the run options and the app's annotations ask.
pub(super) fn streams(inputs: &Inputs<'_>, app: &PodApp) -> Result<Streams> {
    let stream = |name: &str, default| match app.annotation(name) {
        _ if inputs.options.interactive => Ok(Stream::Terminal),
        None | Some("") => Ok(default),
        Some("null") => Ok(Stream::Null),
        Some("log") if name != annotation::STDIN => Ok(Stream::Log),
        Some("interactive") => Ok(Stream::Terminal),
        Some(mode @ ("stream" | "tty")) => {
            bail!("annotation {name}: mode {mode} is not supported yet")
        }
        Some(mode) => bail!("annotation {name}: unknown mode {mode:?}"),
    };
    let streams = Streams {
        stdin: stream(annotation::STDIN, Stream::Null)?,
        stdout: stream(annotation::STDOUT, Stream::Log)?,
        stderr: stream(annotation::STDERR, Stream::Log)?,
    };
    let all = [streams.stdin, streams.stdout, streams.stderr];
    if !all.contains(&Stream::Terminal) {
        return Ok(streams);
    }
    let apps = inputs.pod.apps.len();
    if apps != 1 {
        bail!("interactive: works only in a pod of one app, this one has {apps}");
    }
    if inputs.term.is_none() {
        bail!("interactive: standard input and output must be a terminal");
    }
    if !all.iter().all(|stream| *stream == Stream::Terminal) {
        bail!(
            "annotation {}: mode interactive needs all three streams",
            annotation::STDIN
        );
    }
    Ok(streams)
}
