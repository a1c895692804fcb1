//! The units and files of one app.

mod devices;
mod health;
mod isolation;
mod readiness;
pub(super) mod sockets;
mod streams;
mod unit;

use anyhow::{Result, bail};

use super::{AppPlan, Inputs, Step};
use crate::env::Environment;
use crate::listen::Sockets;
use crate::load::PodApp;
use crate::pod::StageRoot;
use crate::policy::keys;
use crate::spec::{AppSpec, credentials_directory};
use crate::stream::Mode;
use crate::unit::{LINE_MAX, Unit};
use crate::volume::Volumes;

pub(super) fn plan(
    root: &StageRoot,
    inputs: &Inputs<'_>,
    app: &PodApp,
    volumes: &Volumes,
    sockets: &Sockets,
) -> Result<AppPlan> {
    let name = app.name();
    let mounts = volumes
        .mounts
        .get(&app.runtime.name)
        .cloned()
        .unwrap_or_default();
    let streams = streams::streams(inputs, app)?;
    let terminal = streams.modes.any(Mode::Interactive);
    let isolation = isolation::plan(inputs, app)?;
    let devices = devices::plan(inputs, name, &isolation.capabilities, volumes, &mounts);
    let mut directives = isolation.directives;
    directives.extend(devices.directives);
    let mut warnings = isolation.warnings;
    warnings.extend(devices.warnings);
    let unit = unit::unit(
        inputs,
        app,
        &streams,
        &directives,
        sockets,
        &isolation.resources,
    );
    check_length(&unit, "app.exec")?;
    let spec = AppSpec {
        confinement: isolation.confinement,
        isolators: isolation.reports,
        storage: inputs
            .storage
            .filter(|_| isolation.resources.of_blocks())
            .map(str::to_owned),
        resources: isolation.resources,
        strict_isolators: inputs.options.strict_isolators,
        working_directory: app
            .app
            .working_directory
            .clone()
            .unwrap_or_else(|| "/".into()),
        read_only_root: app.runtime.read_only_root_fs,
        no_devices: inputs.options.private_users.is_some(),
        notifies: app.notifies,
        protect_paths: !inputs.options.disable_paths,
        mount_context: inputs.facts.mount_context().map(str::to_owned),
        mounts,
        sockets: sockets.get(name).cloned().unwrap_or_default(),
        credentials: app.credentials.0.keys().cloned().collect(),
        streams: streams.served.clone(),
    };
    let mut spec_json = serde_json::to_string_pretty(&spec)?;
    spec_json.push('\n');
    let mut steps = vec![
        Step::private_file(
            root.env(name),
            environment(inputs, app, streams.term(inputs)).to_file(),
        ),
        Step::file(root.spec(name), spec_json),
        Step::file(root.units().join(unit.name()), unit.to_string()),
    ];
    if let Some(filter) = isolation.filter {
        steps.push(Step::file(root.seccomp(name), filter));
    }
    if let Some(own) = sockets.get(name) {
        for unit in sockets::units(name, own) {
            steps.push(Step::file(root.units().join(unit.name()), unit.to_string()));
        }
    }
    if let Some(health) = &app.policy.health {
        for unit in health::units(inputs, app, health, &directives) {
            check_length(&unit, keys::HEALTH_EXEC)?;
            steps.push(Step::file(root.units().join(unit.name()), unit.to_string()));
        }
    }
    let credentials = app.credentials.0.iter();
    steps.extend(credentials.map(|(credential, content)| {
        Step::secret_file(root.credential(name, credential), content.clone())
    }));
    Ok(AppPlan {
        unit: unit.name().to_owned(),
        steps,
        warnings,
        terminal,
        capabilities: isolation.capabilities,
    })
}

/// Refuses a unit that systemd would not read whole.
fn check_length(unit: &Unit, field: &str) -> Result<()> {
    if let Some(key) = unit.too_long() {
        let name = unit.name();
        bail!(
            "{key}= of {name} would be longer than the {LINE_MAX} bytes that systemd reads: shorten {field}"
        );
    }
    Ok(())
}

fn environment(inputs: &Inputs<'_>, app: &PodApp, term: Option<&str>) -> Environment {
    let url = inputs.options.metadata_url(inputs.reached);
    let mut environment = Environment::of_app(app.name(), &app.app.environment, url.as_deref());
    if let (Some(term), None) = (term, environment.get("TERM")) {
        environment.set("TERM", term);
    }
    if !app.credentials.0.is_empty() {
        let dir = credentials_directory(app.name());
        environment.set("CREDENTIALS_DIRECTORY", &dir);
    }
    environment
}
