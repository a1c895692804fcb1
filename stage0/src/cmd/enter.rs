//! `enter`: a command in an app of a running pod.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use common::annotation::entrypoint;
use common::pod::{PodDir, StageRoot};
use common::root::Root;

use super::Context;
use crate::pod::entrypoint::Stage1;
use crate::pod::run::read_manifest;
use crate::pod::{State, process};

/// How long a pod that is starting may take to have a PID 1.
const START_TIME: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile: the kernel tells nobody of a new process.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The shells that are looked for in an app; the last one need not be there.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

// Options of `enter`.
#[derive(Debug, Args)]
pub(super) struct Enter {
    /// The app; may be left out where the pod has one only
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    /// What to execute, with its arguments; by default /bin/bash where the app has it, else /bin/sh
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Enter {
    /// Becomes the enter entrypoint of the pod's stage1. Returns only when that fails.
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let uuid = context.pods.find(&self.uuid)?;
        let seen = context.pods.see(&uuid, &context.proc)?;
        if seen.state != State::Running {
            bail!("enter pod {uuid}: it is {}", seen.state.as_str());
        }
        let dir = context.pods.dir(seen.pod.place, &uuid);
        let enter = || -> Result<()> {
            let app = one_app(&dir, self.app.as_deref())?;
            let files = seen.pod.files();
            let pid = wait_for_pid_one(&files, &context.proc)?;
            let mut command = Stage1::of(&dir)?.command(&dir, entrypoint::ENTER)?;
            command.args([format!("--pid={pid}"), format!("--appname={app}")]);
            command.arg("--");
            match self.command.is_empty() {
                true => command.arg(shell(&context.proc, pid, &app)),
                false => command.args(&self.command),
            };
            let program = Path::new(command.get_program()).display().to_string();
            Err(command.exec()).with_context(|| format!("execute {program}"))
        };
        enter().with_context(|| format!("enter pod {uuid}"))
    }
}

/// The app that is named, or else the only one.
pub(super) fn one_app(pod: &PodDir, named: Option<&str>) -> Result<String> {
    let apps = read_manifest(pod)?.apps;
    let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
    match (named, &names[..]) {
        (Some(app), _) if names.contains(&app) => Ok(app.to_owned()),
        (Some(app), []) => bail!("--app={app}: the pod has no apps"),
        (Some(app), _) => bail!(
            "--app={app}: the pod has no such app, but {}",
            names.join(", ")
        ),
        (None, [app]) => Ok((*app).to_owned()),
        (None, []) => bail!("it has no apps"),
        (None, _) => bail!(
            "it has several apps, say which with --app: {}",
            names.join(", ")
        ),
    }
}

/// The pod's PID 1, which a pod that has just been started does not have yet.
pub(super) fn wait_for_pid_one(pod: &PodDir, proc: &Path) -> Result<i32> {
    let deadline = Instant::now() + START_TIME;
    loop {
        if let Some(pid) = process::pid_one(pod, proc) {
            return Ok(pid);
        }
        if Instant::now() >= deadline {
            bail!("it has no PID 1: it is starting or ending");
        }
        sleep(LOOK_AGAIN);
    }
}

/// The first shell that the app has; the last one when it has none, which is explained where it is executed.
fn shell(proc: &Path, pid: i32, app: &str) -> &'static str {
    // The pod has the app's root where the host may not: an overlay that was mounted in another mount namespace.
    let pod = StageRoot::new(proc.join(pid.to_string()).join("root"));
    let root = Root::open(&pod.app_root(app));
    let has = |shell: &&&str| {
        let shell = Path::new(shell);
        root.as_ref()
            .is_ok_and(|root| matches!(root.stat(shell), Ok(Some(_))))
    };
    SHELLS.iter().find(has).unwrap_or(&SHELLS[SHELLS.len() - 1])
}
