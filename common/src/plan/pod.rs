//! The isolators of the pod as a whole: limits of its cgroup, kernel parameters.

use std::path::Path;

use anyhow::Result;

use super::{Inputs, Step, refuse_ignored, resources};
use crate::appc::isolator::{APPARMOR_PROFILE, SELINUX_CONTEXT, SYSCTL, isolator};
use crate::cgroup::{DEVICES, OF_SYSTEMD};
use crate::facts::PodCgroup;
use crate::isolate::resource::Resources;
use crate::isolate::sysctl;
use crate::pod::StageRoot;
use crate::spec::PodSpec;
use crate::status::{IsolatorReport, Outcome};
use crate::unit::MUX_UNIT;

/// Where the image has units of its own.
const IMAGE_UNITS: &str = "/usr/lib/systemd/system";

/// By what a scope has a cgroup in the hierarchy of a v1 controller that it has no limit of: its apps may have one. For
/// devices it always has.
const ACCOUNTING: [&str; 4] = [
    "CPUAccounting",
    "IOAccounting",
    "MemoryAccounting",
    "TasksAccounting",
];

/// The isolation of the pod.
pub(super) struct Isolation {
    /// What its first program does.
    pub(super) step: Step,
    /// What init writes for its cgroup.
    pub(super) resources: Resources,
    /// Whether its first program sets parameters of the network.
    pub(super) sets_network: bool,
    /// What its scope gets, when it has one.
    pub(super) properties: Vec<String>,
    /// What becomes of the pod's isolators.
    pub(super) reports: Vec<IsolatorReport>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// Has `iottymux` start with a pod to which apps can be added: each finds it running.
pub(super) fn streams(root: &StageRoot) -> Step {
    Step::Link {
        path: root.wants().join(MUX_UNIT),
        target: Path::new(IMAGE_UNITS).join(MUX_UNIT),
    }
}

pub(super) fn plan(root: &StageRoot, inputs: &Inputs<'_>, cgroup: &PodCgroup) -> Result<Isolation> {
    let isolators = &inputs.pod.manifest.isolators;
    let planned = resources::of_pod(inputs)?;
    let spec = PodSpec {
        controllers: controllers(inputs),
        in_scope: cgroup.scope,
        sysctl: sysctl::parameters(isolators, inputs.options)?,
    };
    let mut json = serde_json::to_string_pretty(&spec)?;
    json.push('\n');
    let counting = isolators.iter().filter(|i| {
        isolator(isolators, i.name.as_str()).is_some_and(|last| std::ptr::eq(*i, last))
    });
    let reports: Vec<_> = counting
        .map(|isolator| {
            let name = isolator.name.as_str();
            let of_resource = planned.report(inputs, name);
            of_resource.unwrap_or_else(|| report(inputs, name, isolator.is_known()))
        })
        .collect();
    refuse_ignored(inputs.options, &reports)?;
    let told = reports.iter().filter(|r| r.outcome != Outcome::Enforced);
    let mut warnings: Vec<_> = told.map(|report| format!("pod: {report}")).collect();
    if let Some(reason) = devices_obstacle(inputs) {
        warnings.push(format!("the devices of apps are not restricted: {reason}"));
    }
    let mut isolation = Isolation {
        step: Step::file(root.pod_spec(), json),
        sets_network: spec.sysctl.keys().any(|name| name.starts_with("net.")),
        properties: Vec::new(),
        resources: planned.effective,
        reports,
        warnings,
    };
    if cgroup.scope {
        let resources = std::mem::take(&mut isolation.resources);
        isolation.properties = properties(inputs, &resources);
    }
    Ok(isolation)
}

/// What systemd is told of the scope. Its policy for devices has to let the pod's volumes through.
fn properties(inputs: &Inputs<'_>, resources: &Resources) -> Vec<String> {
    let mut directives = resources::limits(inputs.facts, resources);
    if let Some(device) = inputs.storage {
        directives.extend(resources::block_limits(resources, device));
    }
    let devices = inputs.pod.devices.values();
    directives.extend(devices.map(|device| ("DeviceAllow", format!("{device} rw"))));
    if !inputs.facts.cgroups.is_unified() {
        directives.extend(ACCOUNTING.map(|key| (key, "yes".into())));
    }
    directives
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// The v1 controllers in whose hierarchies the pod has a cgroup of its own, of those that systemd uses. In a user namespace
/// the policy for devices is not the pod's to make.
fn controllers(inputs: &Inputs<'_>) -> Vec<String> {
    let private = inputs.options.private_users.is_some();
    OF_SYSTEMD
        .iter()
        .filter(|name| inputs.facts.cgroups.has_controller(name, "", &[]))
        .filter(|name| !private || **name != DEVICES)
        .map(|name| (*name).to_owned())
        .collect()
}

/// Why the devices of apps are not restricted. It is done by a v1 controller, or by a BPF program in the unified hierarchy.
fn devices_obstacle(inputs: &Inputs<'_>) -> Option<&'static str> {
    let cgroups = &inputs.facts.cgroups;
    let of_v1 = cgroups.has_controller("devices", "", &[]);
    if inputs.options.private_users.is_some() {
        // By the mounts of each app.
        return None;
    }
    match (of_v1, cgroups.is_unified(), inputs.facts.device_programs) {
        (true, ..) | (_, true, true) => None,
        (_, true, false) => Some("the kernel has no BPF programs for it"),
        _ => Some("the host has no cgroup controller devices"),
    }
}

fn report(inputs: &Inputs<'_>, name: &str, known: bool) -> IsolatorReport {
    let (outcome, detail) = match name {
        SELINUX_CONTEXT if inputs.facts.selinux => (Outcome::Enforced, None),
        SELINUX_CONTEXT => (Outcome::Ignored, Some("this host has no SELinux")),
        APPARMOR_PROFILE if inputs.facts.apparmor.is_some() => (Outcome::Enforced, None),
        APPARMOR_PROFILE => (Outcome::Ignored, Some("this host has no AppArmor")),
        SYSCTL => (Outcome::Enforced, None),
        _ if known => (
            Outcome::Ignored,
            Some("not enforced for a pod, only for apps"),
        ),
        _ => (Outcome::Ignored, Some("unknown")),
    };
    IsolatorReport {
        name: name.to_owned(),
        outcome,
        detail: detail.map(str::to_owned),
    }
}
