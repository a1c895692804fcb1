//! Asks the host's systemd and its machined, which know of pods too where there are such.

use std::path::Path;

use anyhow::{Context, Result};

use super::Manager;
use super::bus::{Bus, Callee, Refused};
use super::scope::Value;

/// The system bus.
const BUS: &str = "run/dbus/system_bus_socket";
/// Where machined has a file of each machine that it knows, by its name.
const MACHINES: &str = "run/systemd/machines";

const MACHINED: Callee<'_> = Callee {
    service: "org.freedesktop.machine1",
    object: "/org/freedesktop/machine1",
    interface: "org.freedesktop.machine1.Manager",
};
const NO_SUCH_MACHINE: &str = "org.freedesktop.machine1.NoSuchMachine";

/// Has machined of the host whose root is `host` forget a machine. It does so by itself when nspawn ends or the machine's
/// scope; it goes on to know one whose nspawn was killed in somebody else's unit. A machine that it does not know is no
/// error, nor is a host without machined.
pub(crate) fn forget_machine(host: &Path, machine: &str) -> Result<()> {
    if !host.join(MACHINES).join(machine).exists() {
        return Ok(());
    }
    let forget = || -> Result<()> {
        let mut bus = Bus::connect_to_many(&host.join(BUS))?;
        let answer = bus.call_on(&MACHINED, "UnregisterMachine", |body| {
            body.push_param(machine)
        });
        match answer {
            Err(err) if !is_no_such_machine(&err) => Err(err),
            _ => Ok(()),
        }
    };
    forget().with_context(|| format!("have machined forget {machine}"))
}

/// Has systemd put the process that becomes a pod's supervisor into a scope beside the one that the pod will have
/// (`machine-….scope`), and returns when it is there.
///
/// While it runs, systemd keeps the v1 hierarchies of these controllers as they are there. Else, when the last unit that
/// uses one of them ends, or a first one starts, it moves all processes of a slice and removes cgroups that are empty
/// then: those that were made for the pod too, as long as it does not know of the pod.
pub(crate) fn hold_controllers(machine: &str, supervisor: u32) -> Result<()> {
    let accounting = [
        "CPUAccounting",
        "IOAccounting",
        "MemoryAccounting",
        "TasksAccounting",
    ];
    let mut properties = vec![
        (
            "Description",
            Value::Text(format!("Supervisor of {machine}")),
        ),
        ("PIDs", Value::Numbers(vec![supervisor])),
        ("Slice", Value::Text("machine.slice".into())),
        ("CollectMode", Value::Text("inactive-or-failed".into())),
    ];
    properties.extend(accounting.map(|name| (name, Value::Flag(true))));
    Manager::connect()?.start_scope(&format!("{machine}-supervisor.scope"), &properties)
}

fn is_no_such_machine(err: &anyhow::Error) -> bool {
    err.downcast_ref::<Refused>()
        .is_some_and(|refused| refused.name == NO_SUCH_MACHINE)
}

/// Has systemd of the host whose root is `host` let a running scope use more devices, each with what it may do (`rw`).
pub(crate) fn allow_devices(
    host: &Path,
    scope: &str,
    devices: Vec<(String, String)>,
) -> Result<()> {
    let properties = [("DeviceAllow", Value::Pairs(devices))];
    let allow = || -> Result<()> {
        let mut bus = Bus::connect_to_many(&host.join(BUS))?;
        // Not for longer than it runs.
        let runtime = true;
        bus.call("SetUnitProperties", |body| {
            body.push_param3(scope, runtime, &properties[..])
        })?;
        Ok(())
    };
    allow().with_context(|| format!("have the host's systemd let {scope} use more devices"))
}
