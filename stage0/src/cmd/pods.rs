//! Commands that look at pods: `list`, `status`, `cat-manifest`; and `stop`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use common::annotation::entrypoint;
use common::appc::Uuid;
use serde_json::{Map, Value, json};

use super::Context;
use super::output::{Format, print, print_json, print_table};
use crate::notice::warn;
use crate::pod::entrypoint::Stage1;
use crate::pod::report::{Report, manifest_text};
use crate::pod::{State, wait};

// Options of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// How to print: text or json
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    no_legend: bool,
}

// Options of `status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// Wait until the pod has ended
    #[arg(long)]
    wait: bool,
    /// How to print: text or json
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
}

// Options of `cat-manifest`.
#[derive(Debug, Args)]
pub(super) struct CatManifest {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
}

// Options of `stop`.
#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    pods: Chosen,
    /// Kill at once instead of stopping in order
    #[arg(long)]
    force: bool,
}

// Which pods a command is about.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// The pods: their UUIDs, or unique beginnings of them
    #[arg(required_unless_present = "uuid_file", conflicts_with = "uuid_file")]
    uuids: Vec<String>,
    /// Take the UUID from a file that --uuid-file-save has written
    #[arg(long, value_name = "FILE")]
    uuid_file: Option<PathBuf>,
}

impl Chosen {
    /// Does something to each, and fails when one fails, after all.
    pub(super) fn each(&self, act: impl Fn(&str) -> Result<()>) -> Result<()> {
        let mut failed = None;
        for uuid in &self.uuids()? {
            if let Err(err) = act(uuid) {
                // The last one is told by the caller.
                if let Some(earlier) = failed.replace(err) {
                    warn(format_args!("{earlier:#}"));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn uuids(&self) -> Result<Vec<String>> {
        let Some(file) = &self.uuid_file else {
            return Ok(self.uuids.clone());
        };
        let context = || format!("--uuid-file: read {}", file.display());
        let text = fs::read_to_string(file).with_context(context)?;
        let uuid: Uuid = text.trim_end().parse().with_context(context)?;
        Ok(vec![uuid.to_string()])
    }
}

impl List {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let mut reports = Vec::new();
        for uuid in context.pods.uuids()? {
            // It may have been removed since.
            if let Some(seen) = context.pods.look(&uuid, &context.proc)? {
                reports.push(Report::of(&seen, &context.proc));
            }
        }
        reports.sort_by(|a, b| (a.created, &a.uuid).cmp(&(b.created, &b.uuid)));
        match self.format {
            Format::Json => print_json(&reports.iter().map(listed).collect::<Vec<_>>()),
            Format::Text => {
                let header = [
                    "UUID", "APP", "IMAGE", "STATE", "CREATED", "STARTED", "USERS", "NETWORKS",
                ];
                let header: &[&str] = if self.no_legend { &[] } else { &header };
                print_table(header, reports.iter().flat_map(rows))
            }
        }
    }
}

/// A pod in the list for programs: what `status` shows, with its UUID and its apps.
fn listed(report: &Report) -> Value {
    let mut pod = Map::new();
    pod.insert("uuid".into(), report.uuid.as_str().into());
    pod.append(&mut report.fields());
    if !report.networks.is_empty() {
        pod.insert("networks".into(), json!(report.networks));
    }
    let apps = report.apps.iter();
    pod.insert(
        "apps".into(),
        apps.map(|app| json!({"name": app.name, "image": app.image}))
            .collect(),
    );
    pod.into()
}

/// A pod in the list for people: a row for each app, and the pod's own cells in the first of them only.
fn rows(report: &Report) -> Vec<Vec<String>> {
    let fields = report.fields();
    let of_pod = |name: &str| {
        let text = fields.get(name).and_then(Value::as_str).unwrap_or_default();
        text.to_owned()
    };
    let app = |at: usize| {
        let app = report.apps.get(at);
        let name = app.map(|app| app.name.clone()).unwrap_or_default();
        let image = app.and_then(|app| app.image.clone()).unwrap_or_default();
        (name, image)
    };
    (0..report.apps.len().max(1))
        .map(|at| {
            let (name, image) = app(at);
            match at {
                0 => vec![
                    report.uuid.to_string(),
                    name,
                    image,
                    of_pod("state"),
                    of_pod("created"),
                    of_pod("started"),
                    of_pod("private-users"),
                    report.networks(),
                ],
                _ => vec![String::new(), name, image],
            }
        })
        .collect()
}

impl Status {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let uuid = context.pods.find(&self.uuid)?;
        let seen = match self.wait {
            true => wait::until_ended(&context.pods, &uuid, &context.proc)?,
            false => context.pods.see(&uuid, &context.proc)?,
        };
        let report = Report::of(&seen, &context.proc);
        let mut fields = report.fields();
        match self.format {
            Format::Json => {
                if let Some(networks) = fields.get_mut("networks") {
                    *networks = json!(report.networks);
                }
                print_json(&fields)
            }
            Format::Text => print(
                fields
                    .iter()
                    .map(|(name, value)| match value {
                        Value::String(text) => format!("{name}={text}\n"),
                        other => format!("{name}={other}\n"),
                    })
                    .collect::<String>(),
            ),
        }
    }
}

impl CatManifest {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let uuid = context.pods.find(&self.uuid)?;
        let seen = context.pods.see(&uuid, &context.proc)?;
        print(manifest_text(&seen.pod.files())?)
    }
}

impl Stop {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        self.pods.each(|uuid| self.stop(context, uuid))
    }

    fn stop(&self, context: &Context, uuid: &str) -> Result<()> {
        let uuid = context.pods.find(uuid)?;
        let seen = wait::until_mounted(&context.pods, &uuid, &context.proc)?;
        if seen.state != State::Running {
            bail!("stop pod {uuid}: it is {}", seen.state.as_str());
        }
        let dir = context.pods.dir(seen.pod.place, &uuid);
        let options = [(self.force, "--force"), (context.debug, "--debug")];
        let options = options
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name));
        Stage1::of(&dir)?
            .call(&dir, entrypoint::STOP, &options.collect::<Vec<_>>(), &uuid)
            .with_context(|| format!("stop pod {uuid}"))?;
        print(format!("{uuid}\n"))
    }
}
