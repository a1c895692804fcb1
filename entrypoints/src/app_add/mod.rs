//! Makes an app known to a running pod: plans it as init does, writes that, and mounts the app's root and volumes in the
//! pod where the pod does not see them yet. systemd reads the unit when the app is started.

mod place;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::apply::{apply, remove_unfinished_volumes};
use common::facts::HostFacts;
use common::flags::{self, Flag, Parsed, switch, value};
use common::limits;
use common::listen::Sockets;
use common::load::Pod;
use common::options::{RunOptions, private_users};
use common::plan::{Existing, Inputs, plan_added};
use common::pod::names_in;
use common::spec;

use crate::app_rm::forget;
use crate::crossing::{APP, Crossing, DEBUG, manage_on_host};
use crate::init::check_contexts;
use crate::inside::turn_to_change;
use crate::{network, print_help, supervisor};

const FLAGS: [Flag; 7] = [
    APP,
    value("uuid", "UUID", "the pod"),
    DEBUG,
    switch(
        "disable-capabilities-restriction",
        "do not restrict capabilities",
    ),
    switch("disable-paths", "do not protect paths of /proc and /sys"),
    switch("disable-seccomp", "do not filter system calls"),
    value(
        "private-users",
        "SHIFT:COUNT",
        "the range of ids of the pod's user namespace, which is known",
    ),
];
const USAGE: &str = "app-add [OPTIONS] --uuid=UUID --app=APP";
const ABOUT: &str =
    "Makes an app of the pod manifest known to the running pod in the working directory.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let uuid = flags.value("uuid").context("--uuid: must be given")?;
    let uuid: Uuid = uuid.parse().with_context(|| format!("--uuid={uuid}"))?;
    let crossing = Crossing::new(&flags)?;
    let options = options(&crossing.options, &flags)?;
    // The modes of what is written are the plan's, not the caller's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    add(&crossing, &uuid, &options)?;
    Ok(ExitCode::SUCCESS)
}

/// How the app is run: as the pod, and with what is switched off for the app alone.
fn options(of_pod: &RunOptions, flags: &Parsed) -> Result<RunOptions> {
    let mut options = of_pod.clone();
    options.debug |= flags.is_set("debug");
    options.disable_capabilities |= flags.is_set("disable-capabilities-restriction");
    options.disable_paths |= flags.is_set("disable-paths");
    options.disable_seccomp |= flags.is_set("disable-seccomp");
    // The terminal is one of the app that the pod was started with.
    options.interactive = false;
    let range = private_users(flags)?;
    if range.is_some() && range != of_pod.private_users {
        bail!("--private-users: the pod has another range of ids");
    }
    Ok(options)
}

fn add(crossing: &Crossing, uuid: &Uuid, options: &RunOptions) -> Result<()> {
    let (dir, app) = (&crossing.dir, crossing.app.as_str());
    let _turn = loop {
        let turn = turn_to_change(&dir.stage_root())?;
        if !has_remains(crossing)? {
            break turn;
        }
        drop(turn);
        forget(crossing, false)?;
    };
    remove_unfinished_volumes(&dir.shared_volumes())?;
    let pod = Pod::load_app(dir, app, options.private_users)?;
    let facts = HostFacts {
        selinux_mount_context: options.mount_context.clone(),
        ..HostFacts::read(Path::new("/"))?
    };
    check_contexts(&pod, &facts)?;
    let storage = limits::storage(dir.path(), Path::new("/sys"));
    let inputs = Inputs {
        uuid,
        pod: &pod,
        options,
        facts: &facts,
        existing: &existing(crossing, &pod)?,
        term: None,
        reached: &network::reached(dir)?,
        storage: storage.as_deref(),
    };
    let plan = plan_added(dir, &inputs)?;
    for warning in &plan.warnings {
        eprintln!("app-add: warning: {warning}");
    }
    let applied = apply(&plan.steps)?;
    let placed = place::place(crossing, &plan.volumes)?;
    let cgroup = supervisor::cgroup(dir, uuid)?;
    allow_devices(crossing, cgroup.as_deref(), &pod, &facts)?;
    let forwarded = network::forward(dir, &pod, app, cgroup.as_deref())?;
    forwarded.keep();
    placed.keep();
    applied.keep();
    Ok(())
}

/// Whether there is something of the app: of an add or a removal that was killed, or of an app that is there, which the
/// pod forgets only if it does not run.
fn has_remains(crossing: &Crossing) -> Result<bool> {
    let app = crossing.app.as_str();
    let root = crossing.dir.stage_root();
    // stage0 writes the environment first, and there may be a status.
    let mut files = root.app_files(app);
    files.push(root.iottymux(app));
    let of_stage0 = [root.env(app), root.status(app)];
    let mut files = files.iter().filter(|file| !of_stage0.contains(file));
    let own = format!("{app}.");
    let volumes = names_in(&crossing.dir.shared_volumes()).context("list the pod's volumes")?;
    Ok(files.any(|file| file.symlink_metadata().is_ok())
        || volumes.iter().any(|key| key.starts_with(&own)))
}

/// Has the host let the pod use the devices of the app, where its systemd has a policy for the pod as a whole.
fn allow_devices(
    crossing: &Crossing,
    cgroup: Option<&Path>,
    pod: &Pod,
    facts: &HostFacts,
) -> Result<()> {
    let Some(cgroup) = cgroup.filter(|_| !pod.devices.is_empty()) else {
        return Ok(());
    };
    let scope = cgroup.file_name().and_then(|unit| unit.to_str());
    // The pods in cgroups that init makes have no policy.
    let Some(scope) = scope.filter(|unit| unit.ends_with(".scope")) else {
        return Ok(());
    };
    let devices: Vec<_> = pod.devices.values().map(ToString::to_string).collect();
    let words = ["allow-devices", scope].into_iter();
    let words = words.chain(devices.iter().map(String::as_str));
    manage_on_host(&crossing.dir.stage_root(), words)?;
    let devices = pod.devices.values().copied();
    facts.cgroups.allow_devices(cgroup, devices)
}

/// What the pod has already.
fn existing(crossing: &Crossing, pod: &Pod) -> Result<Existing> {
    let root = crossing.dir.stage_root();
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let text = |path: &Path| {
        String::from_utf8(read(path)?).with_context(|| format!("read {}", path.display()))
    };
    let volumes = names_in(&crossing.dir.shared_volumes()).context("list the pod's volumes")?;
    let mut ports = pod.apps.iter().flat_map(|app| &app.app.ports);
    let mut sockets = Sockets::new();
    // All the files of other apps: not for nothing.
    if ports.any(|port| port.socket_activated) {
        let others = spec::others(&root, crossing.app.as_str())?;
        sockets.extend(others.into_iter().map(|(app, spec)| (app, spec.sockets)));
    }
    Ok(Existing {
        sockets,
        passwd: text(&root.passwd())?,
        group: text(&root.group())?,
        default_filter: read(&root.default_filter())?,
        volumes: BTreeSet::from_iter(volumes),
        ..Existing::default()
    })
}
