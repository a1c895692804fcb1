//! Removes an app from a running pod, and clears what a killed command has left of one.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use common::annotation::entrypoint;

use super::manifest::Manifest;
use super::running::stop_args;
use super::{Begun, Change, Force, Verb, delete_file};
use crate::pod::delete::delete_tree;
use crate::pod::life::is_running;
use crate::pod::mounts::unmount_below;
use crate::pod::overlay::Layers;
use crate::pod::run::read_tree_id;
use crate::whole;

impl Change<'_> {
    /// Removes an app. One that runs is stopped before, or is an error.
    pub fn remove(&mut self, app: &str, force: Force) -> Result<()> {
        let uuid = self.pod.uuid.clone();
        let context = || format!("remove app {app} of pod {uuid}");
        ensure!(
            self.manifest().app(app).is_some(),
            "{}: there is no such app",
            context()
        );
        if !force.0 {
            ensure!(
                !is_running(self.dir(), app),
                "{}: it is running: stop it, or use --force",
                context()
            );
        }
        self.remove_known(app, force).with_context(context)
    }

    fn remove_known(&mut self, app: &str, force: Force) -> Result<()> {
        Begun::write(self.dir(), Verb::Removing, app)?;
        let args = [format!("--app={app}")];
        let mut forgotten = Ok(());
        if force.0 {
            forgotten = self.cross(entrypoint::APP_STOP, &stop_args(app, Force(false)));
        }
        let forgotten = forgotten.and_then(|()| self.cross(entrypoint::APP_RM, &args));
        if forgotten.is_err() {
            // It has the app still; the next attempt goes on from there.
            Begun::end(self.dir())?;
        }
        forgotten?;
        self.delete(app)
    }

    /// Clears an app that was half added or half removed.
    pub(super) fn clear(&mut self, app: &str) -> Result<()> {
        // Only what the manifest names was made known to the pod.
        if self.manifest().app(app).is_some() {
            self.cross(entrypoint::APP_STOP, &stop_args(app, Force(true)))?;
            self.cross(entrypoint::APP_RM, &[format!("--app={app}")])?;
        }
        self.delete(app)
    }

    /// Deletes all that stage0 has made of an app that the pod does not know any more. Each step can be taken again.
    fn delete(&mut self, app: &str) -> Result<()> {
        let dir = self.dir().clone();
        let root = dir.stage_root();
        let folder = root.app(app);
        if folder.exists() {
            unmount_below(&folder, self.pod.proc())?;
            delete_tree(&folder)?;
        }
        let files = [
            root.env(app),
            root.status(app),
            root.status_json(app),
            root.app_started(app),
            root.app_created(app),
        ];
        for file in &files {
            delete_file(file)?;
        }
        delete_unfinished(&root.env(app))?;
        // Without the file no layers were made.
        if dir.app_tree_id(app).exists() {
            let id = read_tree_id(&dir.app_tree_id(app))?;
            Layers::of(&dir, id.as_str(), Some(app)).delete()?;
        }
        if self.manifest().app(app).is_some() {
            let mut manifest = self.manifest().clone();
            manifest.apps.retain(|other| other.name.as_str() != app);
            manifest
                .ports
                .retain(|port| port.app.is_none() || !port.is_of(app));
            let manifest = Manifest::from(manifest);
            whole::write(&dir.manifest(), &manifest.text)?;
            self.pod.manifest = manifest;
        }
        delete_tree(&dir.app_info(app))?;
        // Last: by this the next command knows that something is left to do.
        Begun::end(&dir)
    }
}

/// Deletes what [`whole::write`] leaves of a file when it is killed.
pub(super) fn delete_unfinished(file: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Ok(());
    };
    if !folder.exists() {
        return Ok(());
    }
    let context = || format!("read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let rest = entry.file_name();
        let rest = rest.as_bytes().strip_prefix(name.as_bytes());
        let number = rest.and_then(|rest| rest.strip_prefix(b"."));
        if number.is_some_and(|n| n.iter().all(u8::is_ascii_digit)) {
            delete_file(&entry.path())?;
        }
    }
    Ok(())
}
