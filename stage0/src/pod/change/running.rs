//! A mutable pod that runs, and what can be done to its apps without a lock.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::annotation::{self, entrypoint};
use common::appc::{self, Uuid};
use common::pod::{PodDir, SUPERVISOR_READY};

use super::cross::Crossing;
use super::manifest::Manifest;
use super::{Begun, Force, delete_file};
use crate::pod::entrypoint::Stage1;
use crate::pod::prepare::touch;
use crate::pod::{Place, Pods, State, process, wait};

/// How long a pod may take to start.
const START: Duration = Duration::from_secs(60);

/// A mutable pod whose supervisor is ready.
#[derive(Debug)]
pub struct RunningPod<'p> {
    pods: &'p Pods,
    proc: &'p Path,
    /// Its UUID.
    pub(super) uuid: Uuid,
    /// Its directory.
    pub(super) dir: PodDir,
    pub(super) stage1: Stage1,
    /// Its manifest, as it was when the pod was looked at.
    pub(super) manifest: Manifest,
    /// Its PID 1.
    pub(super) pid: i32,
    pub(super) debug: bool,
}

impl<'p> RunningPod<'p> {
    /// The pod `uuid`, which must run and be mutable; waits until it is ready. `proc` is the proc file system, `debug` has
    /// entrypoints say more.
    pub fn find(pods: &'p Pods, uuid: &Uuid, proc: &'p Path, debug: bool) -> Result<Self> {
        Self::look(pods, uuid, proc, debug, None)
    }

    /// [`RunningPod::find`], of which a manifest may be known.
    fn look(
        pods: &'p Pods,
        uuid: &Uuid,
        proc: &'p Path,
        debug: bool,
        known: Option<Manifest>,
    ) -> Result<Self> {
        let context = || format!("change pod {uuid}");
        let seen = pods.see(uuid, proc)?;
        must_run(seen.state).with_context(context)?;
        let dir = pods.dir(Place::Run, uuid);
        let manifest = match known {
            Some(known) => known.now(&dir)?.into_owned(),
            None => Manifest::read(&dir)?,
        };
        let mutable = appc::annotation(&manifest.content.annotations, annotation::MUTABLE);
        ensure!(
            mutable == Some("true"),
            "change pod {uuid}: it is immutable (apps come and go in pods of app sandbox and run --mutable)"
        );
        let end = Instant::now() + START;
        let runs = || Ok(pods.see(uuid, proc)?.state == State::Running);
        // The last file that a start writes: from then on the roots are mounted.
        let started = || dir.ppid().exists() || dir.pid().exists();
        let root = dir.stage_root();
        let link = root.supervisor_status();
        let ready = || std::fs::read_link(&link).is_ok_and(|to| to.as_os_str() == SUPERVISOR_READY);
        wait::until(dir.path(), started, runs, end)
            .and_then(|()| match link.parent() {
                Some(folder) => wait::until(folder, ready, runs, end),
                None => Ok(()),
            })
            .context("wait until it is ready")
            .with_context(context)?;
        let pid = process::pid_one(&dir, proc)
            .with_context(|| format!("change pod {uuid}: its PID 1 is not to be found"))?;
        Ok(Self {
            stage1: Stage1::of(&dir)?,
            manifest,
            uuid: uuid.clone(),
            pods,
            proc,
            dir,
            pid,
            debug,
        })
    }

    /// The same pod, looked at again.
    pub(super) fn again(self) -> Result<Self> {
        let known = Some(self.manifest);
        Self::look(self.pods, &self.uuid, self.proc, self.debug, known)
    }

    /// The proc file system.
    pub(super) fn proc(&self) -> &'p Path {
        self.proc
    }

    /// All pods.
    pub(super) fn pods(&self) -> &'p Pods {
        self.pods
    }

    /// Starts an app.
    pub fn start(&self, app: &str) -> Result<()> {
        let context = || format!("start app {app} of pod {}", self.uuid);
        self.must_have(app).with_context(context)?;
        let root = self.dir.stage_root();
        let started = root.app_started(app);
        // As an existing rkt does it (contract.md): whoever finds both files takes the app for one that has ended.
        delete_file(&started)?;
        delete_file(&root.status(app))?;
        touch(&started)?;
        Crossing::of(self)
            .call(entrypoint::APP_START, &[format!("--app={app}")])
            .inspect_err(|_| {
                // Removed meanwhile, and with it the files that tell of it.
                if self.must_have(app).is_err() {
                    let _ = delete_file(&started);
                }
            })
            .with_context(context)
    }

    /// Stops an app; one that does not run is no error.
    pub fn stop(&self, app: &str, force: Force) -> Result<()> {
        let context = || format!("stop app {app} of pod {}", self.uuid);
        self.must_have(app).with_context(context)?;
        Crossing::of(self)
            .call(entrypoint::APP_STOP, &stop_args(app, force))
            .with_context(context)
    }

    /// Fails unless the pod has the app and nobody is adding or removing it.
    fn must_have(&self, app: &str) -> Result<()> {
        let manifest = self.manifest.now(&self.dir)?;
        ensure!(manifest.content.app(app).is_some(), "there is no such app");
        Begun::must_not_be_of(&self.dir, app)
    }
}

/// The arguments of the stop entrypoint for apps.
pub(super) fn stop_args(app: &str, force: Force) -> Vec<String> {
    let mut args = vec![format!("--app={app}")];
    if force.0 {
        args.push("--force".into());
    }
    args
}

fn must_run(state: State) -> Result<()> {
    match state {
        State::Running => Ok(()),
        other => bail!("it is {}, not running", other.as_str()),
    }
}
