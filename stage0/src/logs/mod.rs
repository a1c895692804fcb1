//! What the apps of a pod have said: its journal, read by `journalctl`.
//!
//! Nothing here knows the format of journal files. `journalctl` reads them, the one of the pod's own stage1 where that
//! has one, and prints entries in the export format, which is a stable interface of systemd's.

mod entry;
mod follow;
mod journalctl;
mod query;
mod show;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use common::annotation::MUTABLE;
use common::appc::{self, PodManifest, Uuid};
use common::pod::StageRoot;
use common::root::Root;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::pod::report::written_root;
use crate::pod::run::read_manifest;
use crate::pod::{Pods, Seen};
use journalctl::{Journalctl, path_for_child};
pub use show::{Form, Show};

/// What of a journal is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of this app only.
    pub app: Option<String>,
    /// Nothing from before.
    pub since: Option<SystemTime>,
    /// Only so many of the newest entries that there are.
    pub tail: Option<usize>,
    /// Also what comes until the pod has ended.
    pub follow: bool,
}

/// A pod whose journal is read.
struct Source<'a> {
    pods: &'a Pods,
    proc: &'a Path,
    seen: Seen,
    /// The folder of its machine id; `None` while it has no journal.
    folder: Option<OwnedFd>,
    journalctl: Journalctl,
}

/// Shows what the apps of a pod have said.
///
/// # Errors
/// No such app, no `journalctl`, or what goes wrong when it reads.
pub fn show(pods: &Pods, uuid: &Uuid, proc: &Path, wanted: &Wanted, form: Form) -> Result<()> {
    let seen = pods.see(uuid, proc)?;
    // One that is only being made has none.
    let manifest = read_manifest(&seen.pod.files()).ok();
    let mut source = Source {
        pods,
        proc,
        journalctl: Journalctl::find(pods, &seen)?,
        folder: None,
        seen,
    };
    source.folder = source.open_folder()?;
    if wanted.follow && source.folder.is_none() {
        follow::until_journal(&mut source)?;
    }
    let apps = source.apps(manifest.as_ref())?;
    if let Some(app) = wanted.app.as_ref().filter(|app| !apps.contains(*app)) {
        match apps.is_empty() {
            true => bail!("--app={app}: the pod has no apps"),
            false => bail!(
                "--app={app}: the pod has no such app, but {}",
                Vec::from_iter(apps).join(", ")
            ),
        }
    }
    let more_may_come =
        manifest.is_some_and(|pod| appc::annotation(&pod.annotations, MUTABLE) == Some("true"));
    let named = wanted.app.is_none() && (apps.len() != 1 || more_may_come);
    let mut show = Show::new(form, named);
    match query::run(&source, wanted, &mut show) {
        // Who reads it has read enough.
        Err(err) if is_broken_pipe(&err) => Ok(()),
        shown => shown.and_then(|()| show.end()),
    }
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    let io = err.downcast_ref::<std::io::Error>();
    io.is_some_and(|err| err.kind() == std::io::ErrorKind::BrokenPipe)
}

impl Source<'_> {
    /// The folder of the pod's journal, where there is one. What the pod has written is not trusted: its symlinks stay
    /// inside its root.
    fn open_folder(&self) -> Result<Option<OwnedFd>> {
        let Some(root) = self.root() else {
            return Ok(None);
        };
        let path = self.folder_path();
        match root.open_at(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("open {} of the pod", path.display())),
        }
    }

    fn root(&self) -> Option<Root> {
        written_root(&self.seen.pod.files())
    }

    /// Where the journal is in the pod's root.
    fn folder_path(&self) -> PathBuf {
        let machine = self.seen.pod.uuid.as_str().replace('-', "");
        StageRoot::new("").journal().join(machine)
    }

    /// The apps that the pod has, and those that it had and that have said something.
    fn apps(&self, manifest: Option<&PodManifest>) -> Result<BTreeSet<String>> {
        let mut apps: BTreeSet<String> = manifest
            .into_iter()
            .flat_map(|pod| &pod.apps)
            .map(|app| app.name.as_str().to_owned())
            .collect();
        if let Some(folder) = &self.folder {
            let said = self
                .journalctl
                .text(&path_for_child(folder), &["--field=STAGE1_APP"])?;
            apps.extend(said.lines().map(str::to_owned));
        }
        Ok(apps)
    }
}

/// An option of `journalctl` with its value.
fn option(name: &str, value: impl AsRef<OsStr>) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(format!("--{name}="));
    option.push(value);
    option
}
