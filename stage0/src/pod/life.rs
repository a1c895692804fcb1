//! The lives of a pod's apps: which state each is in, how it ended, what it uses.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use common::pod::{PodDir, StageRoot};
use common::root::Root;
use common::status::{self, AppStatus};
use common::usage::Usage;
use serde_json::{Map, Value};

use super::change::{Begun, Verb};
use super::process;
use super::report::written_root;
use super::run::read_manifest;
use super::state::{Seen, State};

/// The states of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeState {
    /// It was never started.
    Created,
    /// It runs.
    Running,
    /// It runs, and its health command says that it is not well.
    Unhealthy,
    /// It has ended as it should.
    Exited,
    /// It has ended otherwise, or could not be started.
    Failed,
}

impl LifeState {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }
}

/// An app of a pod, as it is now.
#[derive(Debug)]
pub struct AppLife {
    /// Its name.
    pub name: String,
    image: Option<String>,
    image_id: String,
    state: LifeState,
    created: Option<SystemTime>,
    status: Option<AppStatus>,
    usage: Usage,
}

/// The apps of a pod, but those that are being added.
pub fn lives(seen: &Seen, proc: &Path) -> Result<Vec<AppLife>> {
    let dir = seen.pod.files();
    let manifest = read_manifest(&dir)?;
    let root = written_root(&dir);
    let runs = seen.state == State::Running;
    let cgroup = process::cgroup(&dir).filter(|_| runs);
    let begun = Begun::read(&dir)?.filter(|begun| begun.verb == Verb::Adding);
    let apps = manifest.apps.into_iter();
    Ok(apps
        .filter(|app| begun.as_ref().is_none_or(|begun| begun.app != app.name))
        .map(|app| {
            let name = app.name.as_str();
            let status = root.as_ref().and_then(|root| read_status(root, name));
            let usage = cgroup.as_ref().map(|pod| Usage::of_app(pod, name, proc));
            AppLife {
                state: state(status.as_ref(), runs),
                created: created(&dir, name),
                status,
                usage: usage.unwrap_or_default(),
                image: app.image.name.map(String::from),
                image_id: app.image.id.as_str().to_owned(),
                name: app.name.into(),
            }
        })
        .collect())
}

/// Whether an app of a running pod runs.
pub fn is_running(dir: &PodDir, app: &str) -> bool {
    let status = written_root(dir).and_then(|root| read_status(&root, app));
    let state = state(status.as_ref(), true);
    matches!(state, LifeState::Running | LifeState::Unhealthy)
}

fn state(status: Option<&AppStatus>, pod_runs: bool) -> LifeState {
    match status.map(|status| status.state) {
        None | Some(status::State::Created) => LifeState::Created,
        // Nobody was left to write down how it ended.
        Some(status::State::Running | status::State::Unhealthy) if !pod_runs => LifeState::Failed,
        Some(status::State::Running) => LifeState::Running,
        Some(status::State::Unhealthy) => LifeState::Unhealthy,
        Some(status::State::Exited) => LifeState::Exited,
        Some(status::State::Failed) => LifeState::Failed,
    }
}

/// What the pod has written is not trusted to be a file, or to make sense.
fn read_status(root: &Root, app: &str) -> Option<AppStatus> {
    let content = root.read(&StageRoot::new("").status_json(app)).ok()??;
    serde_json::from_slice(&content).ok()
}

/// When the app was added; with the pod, where it was not added later.
fn created(dir: &PodDir, app: &str) -> Option<SystemTime> {
    let time = |file: &Path| fs::symlink_metadata(file)?.modified();
    time(&dir.app_image_manifest(app)).ok()
}

impl AppLife {
    /// How it ended, in a word: its exit code, or the signal.
    pub fn end(&self) -> String {
        let status = self.status.as_ref().filter(|_| self.has_ended());
        let code = status.and_then(|s| s.exit_code.or(s.status));
        let signal = status.and_then(|s| s.signal.clone());
        signal
            .or_else(|| code.map(|code| code.to_string()))
            .unwrap_or_default()
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, LifeState::Exited | LifeState::Failed)
    }

    /// What `app status` shows, by the names that it shows it under.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        };
        let time =
            |time: SystemTime| Value::from(humantime::format_rfc3339_millis(time).to_string());
        let nanos = |nanos: u64| time(UNIX_EPOCH + Duration::from_nanos(nanos));
        let status = self.status.as_ref();
        let ended = status.filter(|_| self.has_ended());
        add("name", Some(self.name.as_str().into()));
        add("state", Some(self.state.as_str().into()));
        add("image", self.image.as_deref().map(Value::from));
        add("image_id", Some(self.image_id.as_str().into()));
        add("created", self.created.map(time));
        add("started", status.and_then(|s| s.started_at).map(nanos));
        add("finished", ended.and_then(|s| s.finished_at).map(nanos));
        add("exit_code", ended.and_then(|s| s.status).map(Value::from));
        add(
            "signal",
            ended.and_then(|s| s.signal.as_deref()).map(Value::from),
        );
        add(
            "result",
            ended.and_then(|s| s.result.as_deref()).map(Value::from),
        );
        add("restarts", status.map(|s| s.restarts.into()));
        add("memory", self.usage.memory.map(Value::from));
        let cpu = self
            .usage
            .cpu
            .map(|time| format!("{:.3}", time.as_secs_f64()));
        add(
            "cpu",
            cpu.and_then(|cpu| cpu.parse::<f64>().ok()).map(Value::from),
        );
        fields
    }
}
