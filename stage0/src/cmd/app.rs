//! Commands that change the apps of a running pod, or look at them.

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use common::appc::{AcName, ExposedPort};
use serde_json::{Map, Value};

use super::manifest::{check, runtime_app};
use super::options::{self, SharedOptions};
use super::output::{Format, print, print_json, print_table};
use super::split::AppWords;
use super::{Context, apps, run, values};
use crate::pod::change::{Addition, Change, Force, RunningPod};
use crate::pod::life::{AppLife, lives};
use crate::store::Store;

/// The commands below `app`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum App {
    /// Run a pod without apps, to which apps are added while it runs
    Sandbox(Box<run::Sandbox>),
    /// Add an app to a pod
    #[command(override_usage = "stage0 app add [OPTIONS] UUID IMAGE [APP OPTIONS] [-- ARGS…]")]
    Add(Add),
    /// Start an app
    Start(Start),
    /// Stop an app
    Stop(Stop),
    /// Remove an app from its pod
    Rm(Rm),
    /// List the apps of a pod
    List(List),
    /// Show the state of an app
    Status(Status),
}

// Options of `app add`.
#[derive(Debug, Args)]
#[command(after_help = options::app_help())]
pub(super) struct Add {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    #[command(flatten)]
    shared: SharedOptions,
    /// Lead a port of the host to a port of the app: NAME:[HOSTIP:]HOSTPORT
    #[arg(long, value_name = "NAME:PORT", value_parser = values::port)]
    port: Vec<ExposedPort>,
}

// Options of `app start`.
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// The app
    #[arg(long)]
    app: AcName,
}

// Options of `app stop`.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// The app
    #[arg(long)]
    app: AcName,
    /// Kill at once instead of stopping in order
    #[arg(long)]
    force: bool,
}

// Options of `app rm`.
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// The app
    #[arg(long)]
    app: AcName,
    /// Stop it first if it runs
    #[arg(long)]
    force: bool,
}

// Options of `app list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// How to print: text or json
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    no_legend: bool,
}

// Options of `app status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// The app
    #[arg(long)]
    app: AcName,
    /// How to print: text or json
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
}

impl App {
    pub(super) fn execute(self, context: &Context, words: Vec<AppWords>) -> Result<()> {
        match self {
            Self::Sandbox(sandbox) => sandbox.execute(context),
            Self::Add(add) => add.execute(context, words),
            Self::Start(start) => pod(context, &start.uuid)?.start(start.app.as_str()),
            Self::Stop(stop) => {
                pod(context, &stop.uuid)?.stop(stop.app.as_str(), Force(stop.force))
            }
            Self::Rm(rm) => {
                let mut change = Change::begin(pod(context, &rm.uuid)?)?;
                change.remove(rm.app.as_str(), Force(rm.force))
            }
            Self::List(list) => list.execute(context),
            Self::Status(status) => status.execute(context),
        }
    }
}

/// The pod that a word means, which must run.
fn pod<'c>(context: &'c Context, uuid: &str) -> Result<RunningPod<'c>> {
    let uuid = context.pods.find(uuid)?;
    RunningPod::find(&context.pods, &uuid, &context.proc, context.debug)
}

impl Add {
    fn execute(self, context: &Context, words: Vec<AppWords>) -> Result<()> {
        ensure!(words.len() <= 1, "app add: takes one image");
        let Some(words) = words.into_iter().next() else {
            bail!("no image is given");
        };
        let (image, options, args) = apps::parse(words)?;
        // Before anything is imported.
        let pod = pod(context, &self.uuid)?;
        let store = Store::open(&context.data)?;
        let request = apps::request(&store, &image, options, args)?;
        let app = runtime_app(&self.shared, &request)?;
        let mut change = Change::begin(pod)?;
        let name = app.name.clone();
        let of_app = |port| ExposedPort {
            app: Some(name.clone()),
            ..port
        };
        let addition = Addition {
            app,
            ports: self.port.into_iter().map(of_app).collect(),
            image: &request.manifest,
        };
        change.add(&store, addition, &check)?;
        print(format!("{name}\n"))
    }
}

/// The apps of a pod in any state.
fn apps_of(context: &Context, uuid: &str) -> Result<Vec<AppLife>> {
    let uuid = context.pods.find(uuid)?;
    let seen = context.pods.see(&uuid, &context.proc)?;
    lives(&seen, &context.proc)
}

impl List {
    fn execute(self, context: &Context) -> Result<()> {
        let apps = apps_of(context, &self.uuid)?;
        let fields: Vec<Map<String, Value>> = apps.iter().map(AppLife::fields).collect();
        if self.format == Format::Json {
            return print_json(&fields);
        }
        const COLUMNS: [&str; 8] = [
            "name", "state", "ended", "restarts", "memory", "cpu", "started", "finished",
        ];
        let header = COLUMNS.map(str::to_ascii_uppercase);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let header: &[&str] = if self.no_legend { &[] } else { &header };
        let rows = apps.iter().zip(&fields).map(|(app, fields)| {
            let cell = |name: &&str| match *name {
                "ended" => app.end(),
                name => fields.get(name).map(text).unwrap_or_default(),
            };
            COLUMNS.iter().map(cell).collect()
        });
        print_table(header, rows)
    }
}

impl Status {
    fn execute(self, context: &Context) -> Result<()> {
        let apps = apps_of(context, &self.uuid)?;
        let name = self.app.as_str();
        let Some(app) = apps.iter().find(|app| app.name == name) else {
            bail!("pod {}: has no app {name}", self.uuid);
        };
        let fields = app.fields();
        match self.format {
            Format::Json => print_json(&fields),
            Format::Text => {
                let lines = fields.iter();
                print(
                    lines
                        .map(|(name, value)| format!("{name}={}\n", text(value)))
                        .collect::<String>(),
                )
            }
        }
    }
}

/// A value without quotes around text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
