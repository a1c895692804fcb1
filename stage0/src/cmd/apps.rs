//! Finds the images that a command line names and makes a pod of them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use common::appc::{ImageId, PodManifest};
use rustix::fs::StatVfsMountFlags;

use super::Context;
use super::manifest::{AppRequest, check, pod_manifest};
use super::options::{AppOptions, PodOptions};
use super::split::AppWords;
use crate::image::ImageSource;
use crate::notice::warn;
use crate::pod::overlay;
use crate::pod::prepare::{Order, Prepared, prepare};
use crate::pod::stage1;
use crate::store::{ImportOptions, Store};

/// Prepares the pod that a command line describes.
pub(super) fn prepare_pod(
    context: &Context,
    options: &PodOptions,
    apps: Vec<AppWords>,
) -> Result<(Store, PodManifest, Prepared)> {
    let apps = apps
        .into_iter()
        .map(parse)
        .collect::<Result<Vec<(OsString, AppOptions, Vec<String>)>>>()?;
    // Apps of a mutable pod may all come later.
    ensure!(
        apps.is_empty() != options.pod_manifest.is_none() || options.mutable,
        match apps.is_empty() {
            true => "no image is given",
            false => "--pod-manifest: goes without images, which it names itself",
        }
    );
    // Before anything is imported.
    if options.private_users.0.is_some() {
        common::kernel::check_user_namespaces(&context.proc)?;
    }
    let stage1_file = context.stage1_file()?;
    let store = Store::open(&context.data)?;
    let manifest = match &options.pod_manifest {
        Some(file) => given_manifest(&store, file)?,
        None => {
            let requests = apps
                .into_iter()
                .map(|(image, options, args)| request(&store, &image, options, args))
                .collect::<Result<Vec<AppRequest>>>()?;
            pod_manifest(options, &requests)?
        }
    };
    let stage1 = stage1::from_file(&store, &context.data, &stage1_file)?;
    let overlay = !options.no_overlay && overlay_is_possible(&context.data)?;
    if !overlay {
        check_for_copies(&context.data)?;
    }
    let order = Order {
        manifest: &manifest,
        stage1: &stage1,
        overlay,
        users: options.private_users.0,
        etc: Path::new("/etc"),
    };
    let prepared = prepare(&context.pods, &store, &order)?;
    Ok((store, manifest, prepared))
}

/// The words of an app, parsed.
pub(super) fn parse(words: AppWords) -> Result<(OsString, AppOptions, Vec<String>)> {
    let options = AppOptions::try_parse_from(words.options)?;
    let mut args = Vec::new();
    for arg in words.args {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            // Manifests are JSON, which has no other text.
            Err(arg) => bail!("argument {arg:?}: must be UTF-8"),
        }
    }
    Ok((words.image, options, args))
}

/// An app whose image is in the store or is imported.
pub(super) fn request(
    store: &Store,
    image: &OsStr,
    options: AppOptions,
    args: Vec<String>,
) -> Result<AppRequest> {
    let id = find_image(store, image)?;
    Ok(AppRequest {
        manifest: store.manifest(&id)?,
        image: id,
        options,
        args,
    })
}

/// An image in the store, or one that is imported first. What looks like a path or has the prefix of a kind of image is
/// imported; other words are names in the store, and files only when there is no such name.
fn find_image(store: &Store, word: &OsStr) -> Result<ImageId> {
    let text = word
        .to_str()
        .with_context(|| format!("image {word:?}: must be UTF-8"))?;
    let source: ImageSource = text.parse()?;
    let is_path = ["/", "./", "../"]
        .iter()
        .any(|start| text.starts_with(start));
    if source.kind.is_none() && !is_path {
        match store.resolve(text) {
            Ok(id) => return Ok(id),
            Err(err) if !source.path.exists() => return Err(err),
            Err(_) => {}
        }
    }
    let imported = store.import(&source, &ImportOptions::default())?;
    for warning in imported.warnings {
        warn(format_args!("image {text}: {warning}"));
    }
    Ok(imported.id)
}

/// A manifest that the user has written: its images must be there.
fn given_manifest(store: &Store, file: &Path) -> Result<PodManifest> {
    let context = || format!("read {}", file.display());
    let bytes = fs::read(file).with_context(context)?;
    let manifest = PodManifest::parse(&bytes).with_context(context)?;
    for app in &manifest.apps {
        let name = &app.name;
        let image = store
            .manifest(&app.image.id)
            .with_context(|| format!("app {name}"))?;
        if app.app.is_none() && image.app.is_none() {
            bail!(
                "app {name}: neither it nor its image {} says what to run",
                image.name
            );
        }
    }
    check(&manifest)?;
    Ok(manifest)
}

/// Refuses copies of root file systems where nothing in them could be executed: an overlay is a mount of its own, they are
/// not.
fn check_for_copies(data: &Path) -> Result<()> {
    let flags = rustix::fs::statvfs(data)
        .with_context(|| format!("look at {}", data.display()))?
        .f_flag;
    ensure!(
        !flags.contains(StatVfsMountFlags::NOEXEC),
        "{} is mounted noexec: apps can run from overlays there, and not from copies of their root file systems",
        data.display()
    );
    if flags.contains(StatVfsMountFlags::NOSUID) {
        warn(format_args!(
            "{} is mounted nosuid: set-user-ID programs and file capabilities have no effect in copies of root file systems",
            data.display()
        ));
    }
    Ok(())
}

fn overlay_is_possible(data: &Path) -> Result<bool> {
    let reason = overlay::unsupported(data)?;
    if let Some(reason) = reason {
        warn(format_args!("copying root file systems: {reason}"));
    }
    Ok(reason.is_none())
}
