//! Entering an app that does not run: in a cgroup of the command's own with the app's limits, and in a root made as the
//! app's own start makes it.

use std::path::Path;

use anyhow::{Context, Result};
use common::cgroup::Hierarchies;
use common::isolate::resource::Resources;
use common::limits::Limits;
use common::unit::app_unit;

use super::app::App;
use super::likeness::Likeness;
use crate::manager::{Manager, Value};
use crate::prepare_app::mounts;

/// What the cgroup of a unit is limited by (org.freedesktop.systemd1(5)). The names are the same for a scope.
const LIMITS: [&str; 9] = [
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "DeviceAllow",
    "DevicePolicy",
    "IOAccounting",
    "MemoryLow",
    "MemoryMax",
    "MemorySwapMax",
];
/// The same for processes, which not every kernel counts.
const TASKS_MAX: &str = "TasksMax";

/// What systemd says of a limit that there is none of.
const NO_LIMIT: Value = Value::Number(u64::MAX);

/// Puts this process, which is one of the pod in its namespaces, into a cgroup with the limits of `app`, takes over
/// what its main process would inherit, and makes its root.
pub(super) fn join(app: &App) -> Result<()> {
    let mut manager = Manager::connect()?;
    let unit = app_unit(&app.name);
    let pid = std::process::id();
    let properties = properties(&mut manager, &unit, pid)?;
    manager.start_scope(&scope(app, pid), &properties)?;
    limit_rest(app)?;
    // In a user namespace becoming its root has given this process's files in /proc to the host's, until the command is
    // executed. They are as the app's own again: the program is a sealed copy, and what it has open is the pod's.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .context("have this process's files in /proc")?;
    Likeness::of_unit(&mut manager, &unit)?.take()?;
    drop(manager);
    let proc = Path::new("/proc");
    app.spec.confinement.ask_for_label(proc)?;
    let root = common::pod::StageRoot::new("/");
    mounts::enter_root(&root, &app.name, &app.spec).context("make the app's root")
}

/// The scope of the process that has the pid `pid` in the pod, and that is nobody else's while it lives.
pub(super) fn scope(app: &App, pid: u32) -> String {
    format!("enter-{}-{pid}.scope", app.name)
}

/// The properties of the scope. Drop-ins in the place of properties would do nothing: systemd 252 applies none to
/// scopes that are made so.
fn properties(manager: &mut Manager, unit: &str, pid: u32) -> Result<Vec<(&'static str, Value)>> {
    let stopped = || Value::Texts(vec!["stopped.target".into()]);
    let mut properties = vec![
        ("Description", Value::Text(format!("Entered: {unit}"))),
        ("PIDs", Value::Numbers(vec![pid])),
        ("DefaultDependencies", Value::Flag(false)),
        ("CollectMode", Value::Text("inactive-or-failed".into())),
        ("Conflicts", stopped()),
        ("Before", stopped()),
        // The pod's end waits for nobody who is only looking.
        (
            "KillSignal",
            Value::Signed(rustix::process::Signal::KILL.as_raw()),
        ),
    ];
    for name in LIMITS.into_iter().chain([TASKS_MAX]) {
        let value = manager.get(unit, "Service", name)?;
        if value != NO_LIMIT && value != Value::Number(0) {
            properties.push((name, value));
        }
    }
    Ok(properties)
}

/// The limits that systemd cannot be told, as `prepare-app` sets them.
fn limit_rest(app: &App) -> Result<()> {
    if app.spec.resources == Resources::default() {
        return Ok(());
    }
    let hierarchies = Hierarchies::read(Path::new("/proc"))?;
    let storage = app.spec.storage.as_deref();
    Limits::own(&hierarchies, storage).set_rest(&app.spec.resources);
    Ok(())
}
