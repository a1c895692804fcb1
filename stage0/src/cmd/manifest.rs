//! Makes the pod manifest out of images and options.

use anyhow::{Context as _, Result, bail, ensure};
use common::annotation;
use common::appc::isolator::{
    CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET, SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET,
};
use common::appc::{
    self, AcName, Annotation, App, EnvironmentVariable, ImageId, ImageManifest, Mount, PodManifest,
    RuntimeApp, RuntimeImage,
};
use common::cri_log;
use common::policy::{journal_max_size, keys};
use common::stream::Modes;

use super::options::{AppOptions, PodOptions, SharedOptions};

/// An app as the command line asks for it.
#[derive(Debug)]
pub(super) struct AppRequest {
    /// The id of its image.
    pub(super) image: ImageId,
    /// The manifest of its image.
    pub(super) manifest: ImageManifest,
    /// Its options.
    pub(super) options: AppOptions,
    /// Further arguments for its program.
    pub(super) args: Vec<String>,
}

/// The manifest of a pod of these apps.
pub(super) fn pod_manifest(pod: &PodOptions, requests: &[AppRequest]) -> Result<PodManifest> {
    let mut apps: Vec<RuntimeApp> = Vec::new();
    for request in requests {
        let app = runtime_app(&pod.shared, request)?;
        if apps.iter().any(|other| other.name == app.name) {
            bail!("two apps are called {}: give one another --name", app.name);
        }
        apps.push(app);
    }
    let mut manifest = PodManifest {
        apps,
        volumes: pod.volume.clone(),
        annotations: pod.pod_annotation.clone(),
        ports: pod.port.clone(),
        ..PodManifest::default()
    };
    if pod.mutable {
        set_annotation(&mut manifest.annotations, annotation::MUTABLE, "true")?;
    }
    if let Some(size) = &pod.journal_max_size {
        set_annotation(&mut manifest.annotations, keys::JOURNAL_MAX_SIZE, size)?;
    }
    check(&manifest)?;
    Ok(manifest)
}

/// What the specification's own rules leave to stage0.
pub(super) fn check(manifest: &PodManifest) -> Result<()> {
    journal_max_size(&manifest.annotations)?;
    let logs_to_files = cri_log::directory(&manifest.annotations)?.is_some();
    for app in &manifest.apps {
        if logs_to_files {
            cri_log::file(&app.annotations).with_context(|| format!("app {}", app.name))?;
        }
        Modes::read(|name| appc::annotation(&app.annotations, name))
            .with_context(|| format!("app {}", app.name))?;
        for mount in &app.mounts {
            let known = mount.app_volume.is_some()
                || manifest.volumes.iter().any(|v| v.name == mount.volume);
            ensure!(
                known,
                "app {}: mount of volume {}: there is no such volume",
                app.name,
                mount.volume
            );
        }
    }
    manifest.validate()?;
    Ok(())
}

/// The app that a command line asks for.
pub(super) fn runtime_app(shared: &SharedOptions, request: &AppRequest) -> Result<RuntimeApp> {
    let options = &request.options;
    let image = &request.manifest;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => default_name(image)?,
    };
    Ok(RuntimeApp {
        image: RuntimeImage {
            name: Some(image.name.clone()),
            id: request.image.clone(),
            labels: image.labels.clone(),
            extra: serde_json::Map::new(),
        },
        app: Some(app_section(shared, request)?),
        read_only_root_fs: options.readonly_rootfs,
        mounts: merge_mounts(&shared.mount, options),
        annotations: annotations(options)?,
        name,
        extra: serde_json::Map::new(),
    })
}

/// The image's own section with everything that options say in place of it.
fn app_section(shared: &SharedOptions, request: &AppRequest) -> Result<App> {
    let options = &request.options;
    let mut app = match (&request.manifest.app, &options.exec) {
        (Some(app), _) => app.clone(),
        (None, Some(_)) => App {
            user: "0".to_owned(),
            group: "0".to_owned(),
            ..App::default()
        },
        (None, None) => bail!(
            "image {}: does not say what to run, and there is no --exec",
            request.manifest.name
        ),
    };
    if let Some(exec) = &options.exec {
        app.exec = vec![exec.clone()];
    }
    app.exec.extend(request.args.iter().cloned());
    if let Some(user) = &options.user {
        app.user.clone_from(user);
    }
    if let Some(group) = &options.group {
        app.group.clone_from(group);
    }
    if let Some(gids) = &options.supplementary_gids {
        app.supplementary_gids.clone_from(gids);
    }
    if let Some(dir) = &options.working_dir {
        app.working_directory = Some(dir.clone());
    }
    if let Some(capabilities) = options
        .caps_retain
        .as_ref()
        .or(options.caps_remove.as_ref())
    {
        let both = [CAPABILITIES_RETAIN_SET, CAPABILITIES_REMOVE_SET];
        app.isolators.retain(|i| !both.contains(&i.name.as_str()));
        app.isolators.push(capabilities.clone());
    }
    if let Some(filter) = &options.seccomp {
        let both = [SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET];
        app.isolators.retain(|i| !both.contains(&i.name.as_str()));
        app.isolators.push(filter.clone());
    }
    let resources = [
        &options.memory,
        &options.cpu,
        &options.cpu_shares,
        &options.oom_score_adj,
    ];
    for isolator in resources.into_iter().flatten() {
        app.isolators.retain(|i| i.name != isolator.name);
        app.isolators.push(isolator.clone());
    }
    for variable in shared.set_env.iter().chain(&options.environment) {
        set_variable(&mut app.environment, variable);
    }
    app.user_annotations
        .extend(options.user_annotation.iter().cloned());
    app.user_labels.extend(options.label.iter().cloned());
    Ok(app)
}

/// The app's name by default: the last part of the image's name, with what a name may not contain turned into `-`.
fn default_name(image: &ImageManifest) -> Result<AcName> {
    let full = image.name.as_str();
    let last = full.rsplit('/').next().unwrap_or(full);
    let words: Vec<&str> = last
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    match words.join("-").to_ascii_lowercase().parse() {
        Ok(name) => Ok(name),
        Err(_) => bail!("image {full}: gives no name for its app: use --name"),
    }
}

/// Of two mounts at one path the app's own counts.
fn merge_mounts(shared: &[Mount], options: &AppOptions) -> Vec<Mount> {
    let own = options.mount.iter().chain(&options.mnt_volume);
    let visible = |mount: &&Mount| !own.clone().any(|own| own.path == mount.path);
    shared
        .iter()
        .filter(visible)
        .chain(own.clone())
        .cloned()
        .collect()
}

fn set_variable(environment: &mut Vec<EnvironmentVariable>, variable: &EnvironmentVariable) {
    match environment.iter_mut().find(|v| v.name == variable.name) {
        Some(old) => old.value.clone_from(&variable.value),
        None => environment.push(variable.clone()),
    }
}

/// The annotations that the user gives, and those that stand for the modes of the streams.
fn annotations(options: &AppOptions) -> Result<Vec<Annotation>> {
    let mut annotations = options.annotation.clone();
    for (name, mode) in [
        (annotation::STDIN, &options.stdin),
        (annotation::STDOUT, &options.stdout),
        (annotation::STDERR, &options.stderr),
    ] {
        let Some(mode) = mode else { continue };
        set_annotation(&mut annotations, name, mode)?;
    }
    Ok(annotations)
}

fn set_annotation(annotations: &mut Vec<Annotation>, name: &str, value: &str) -> Result<()> {
    annotations.retain(|a| a.name.as_str() != name);
    annotations.push(Annotation {
        name: name.parse()?,
        value: value.to_owned(),
        extra: serde_json::Map::new(),
    });
    Ok(())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
