//! Adds an app to a running pod. Each step has its undo before the next one starts, so a failure leaves the pod as it was.

use std::fs;

use anyhow::{Context, Result, ensure};
use common::annotation::entrypoint;
use common::appc::{ExposedPort, ImageManifest, PodManifest, RuntimeApp};
use common::apply::belong;
use common::env::Environment;
use common::user_namespace;

use super::cross::Failure;
use super::manifest::Manifest;
use super::{Begun, Change, Verb, delete_file};
use crate::pod::delete::delete_tree;
use crate::pod::mounts::unmount_below;
use crate::pod::overlay::Layers;
use crate::pod::prepare::{complete_app, make_dir, make_layers, render, touch};
use crate::pod::undo::Undo;
use crate::pod::users;
use crate::store::Store;
use crate::whole;

/// What is the matter with a manifest, if something is.
type Check<'a> = &'a dyn Fn(&PodManifest) -> Result<()>;

/// What comes to a pod.
#[derive(Debug)]
pub struct Addition<'a> {
    /// The app.
    pub app: RuntimeApp,
    /// Ports of the host that lead to it.
    pub ports: Vec<ExposedPort>,
    /// The manifest of its image.
    pub image: &'a ImageManifest,
}

impl Change<'_> {
    /// Adds an app. `check` looks at the manifest that the pod would have with it.
    pub fn add(&mut self, store: &Store, addition: Addition<'_>, check: Check<'_>) -> Result<()> {
        let Addition { app, ports, image } = addition;
        let (name, uuid) = (app.name.clone(), self.pod.uuid.clone());
        let context = || format!("add app {name} to pod {uuid}");
        ensure!(
            self.manifest().app(name.as_str()).is_none(),
            "{}: there is one of this name already: give another --name",
            context()
        );
        if self.dir().app_info(name.as_str()).exists() {
            // What an addition before could not undo.
            self.clear(name.as_str()).with_context(context)?;
        }
        let mut manifest = self.manifest().clone();
        manifest.apps.push(app.clone());
        manifest.ports.extend(ports);
        check(&manifest)?;
        let manifest = Manifest::from(manifest);
        self.add_checked(store, &app, image, &manifest)
            .with_context(context)?;
        self.pod.manifest = manifest;
        Ok(())
    }

    fn add_checked(
        &self,
        store: &Store,
        app: &RuntimeApp,
        image: &ImageManifest,
        manifest: &Manifest,
    ) -> Result<()> {
        let name = app.name.as_str();
        let mut undo = Undo::default();
        self.note(name, image, &mut undo)?;
        self.make_root(store, app, &mut undo)?;
        self.tell(app, manifest, &mut undo)?;
        let args = [format!("--app={name}"), format!("--uuid={}", self.pod.uuid)];
        let added = self.cross(entrypoint::APP_ADD, &args);
        let failure = added.as_ref().err();
        if failure.is_some_and(|err| err.downcast_ref::<Failure>().is_some_and(|f| f.killed)) {
            // It could not take back what it had done.
            undo.push(|| self.cross(entrypoint::APP_RM, &[format!("--app={name}")]));
        }
        added?;
        Begun::end(self.dir())?;
        undo.keep();
        Ok(())
    }

    /// Writes down that an app is being added, and of which image.
    fn note<'u>(&'u self, name: &str, image: &ImageManifest, undo: &mut Undo<'u>) -> Result<()> {
        Begun::write(self.dir(), Verb::Adding, name)?;
        undo.push(|| Begun::end(self.dir()));
        let info = self.dir().app_info(name);
        fs::create_dir(&info).with_context(|| format!("make {}", info.display()))?;
        undo.push(move || delete_tree(&info));
        whole::write(&self.dir().app_image_manifest(name), &image.to_json())
    }

    /// Makes the app's root file system where the pod looks for it: an overlay or a plain directory, as for its other apps.
    fn make_root<'u>(&'u self, store: &Store, app: &RuntimeApp, undo: &mut Undo<'u>) -> Result<()> {
        let (dir, name) = (self.dir(), app.name.as_str());
        let root = dir.stage_root();
        let users = users::of_pod(dir)?;
        let (folder, target) = (root.app(name), root.app_root(name));
        if let Some(apps) = folder.parent() {
            make_dir(apps)?;
        }
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        belong(&folder)?;
        let proc = self.pod.proc();
        undo.push(move || {
            unmount_below(&folder, proc)?;
            delete_tree(&folder)
        });
        make_dir(&target)?;
        if !dir.overlay_prepared().exists() {
            render(store, &app.image.id, &target, users)?;
            return complete_app(dir, &root, name);
        }
        let tree = store.render(&app.image.id)?;
        let id = tree.id.to_string();
        // Before there are layers: whoever clears a half-done addition finds them by it.
        whole::write(&dir.app_tree_id(name), id.as_bytes())?;
        let layers = Layers::of(dir, &id, Some(name));
        let made = Layers::of(dir, &id, Some(name));
        undo.push(move || made.delete());
        make_layers(&layers, &tree, users)?;
        let users = users.map(user_namespace::with_ids).transpose()?;
        layers.mount(self.pod.pods(), &tree.rootfs, &target, users.as_ref())?;
        let mounted = target.clone();
        undo.push(move || unmount_below(&mounted, proc));
        complete_app(dir, &root, name)
    }

    /// Writes what stage1 reads: the environment, the manifest, the marker of an app that was added.
    fn tell<'u>(
        &'u self,
        app: &RuntimeApp,
        manifest: &Manifest,
        undo: &mut Undo<'u>,
    ) -> Result<()> {
        let name = app.name.as_str();
        let root = self.dir().stage_root();
        // Of an earlier app of this name, should its start have met its removal.
        for stale in [root.status(name), root.app_started(name)] {
            delete_file(&stale)?;
        }
        let section = app.app.as_ref();
        let variables = section.map_or(&[][..], |app| &app.environment);
        let env = root.env(name);
        if let Some(folder) = env.parent() {
            make_dir(folder)?;
        }
        // The entrypoint writes it again, with what it knows besides.
        let content = Environment::of_app(name, variables, None).to_file();
        whole::write_private(&env, content.as_bytes())?;
        belong(&env)?;
        undo.push(move || delete_file(&env));
        let file = self.dir().manifest();
        whole::write(&file, &manifest.text)?;
        undo.push(move || whole::write(&file, &self.pod.manifest.text));
        let created = root.app_created(name);
        touch(&created)?;
        undo.push(move || delete_file(&created));
        Ok(())
    }
}
