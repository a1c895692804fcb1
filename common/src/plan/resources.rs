//! Resource isolators as directives of systemd.

use anyhow::Result;

use super::{Directive, Inputs};
use crate::appc::Isolator;
use crate::appc::isolator::{
    BLOCK_BANDWIDTH, BLOCK_IOPS, CPU, CPU_SHARES, MEMORY, NETWORK_BANDWIDTH, PIDS_MAX,
};
use crate::facts::HostFacts;
use crate::isolate::resource::{NAMES, Resources};
use crate::net::sole_app;
use crate::status::{IsolatorReport, Outcome};

/// What isolators ask for, and what comes of it.
pub(super) struct Planned {
    asked: Resources,
    pub(super) effective: Resources,
    /// They are an app's, and the app's alone.
    shared: bool,
}

/// What an app's isolators ask for, within what the pod has.
pub(super) fn of_app(inputs: &Inputs<'_>, isolators: &[Isolator]) -> Result<Planned> {
    let asked = Resources::parse(isolators)?;
    let of_pod = Resources::parse(&inputs.pod.manifest.isolators)?;
    Ok(Planned {
        effective: asked.within(&of_pod),
        asked,
        shared: sole_app(inputs.pod).is_none(),
    })
}

/// What the pod's own isolators ask for.
pub(super) fn of_pod(inputs: &Inputs<'_>) -> Result<Planned> {
    let asked = Resources::parse(&inputs.pod.manifest.isolators)?;
    Ok(Planned {
        effective: asked.clone(),
        asked,
        shared: false,
    })
}

impl Planned {
    /// What becomes of an isolator; `None` when it is not one of resources.
    pub(super) fn report(&self, inputs: &Inputs<'_>, name: &str) -> Option<IsolatorReport> {
        if !NAMES.contains(&name) {
            return None;
        }
        let (outcome, detail) = if let Some(why) = obstacle(inputs, name, self.shared) {
            (Outcome::Ignored, Some(why))
        } else if self.asked.differs(&self.effective, name) {
            (
                Outcome::Modified,
                Some("the pod's own limit is lower".to_owned()),
            )
        } else {
            (Outcome::Enforced, None)
        };
        Some(IsolatorReport {
            name: name.to_owned(),
            outcome,
            detail,
        })
    }
}

/// Why the host cannot enforce an isolator.
fn obstacle(inputs: &Inputs<'_>, name: &str, shared: bool) -> Option<String> {
    let (v1, v2) = match name {
        CPU | CPU_SHARES => ("cpu", "cpu"),
        MEMORY => ("memory", "memory"),
        PIDS_MAX => ("pids", "pids"),
        BLOCK_BANDWIDTH | BLOCK_IOPS => ("blkio", "io"),
        NETWORK_BANDWIDTH => return of_network(inputs, shared).map(str::to_owned),
        _ => return None,
    };
    let facts = inputs.facts;
    if !facts
        .cgroups
        .has_controller(v1, v2, &facts.unified_controllers)
    {
        return Some(format!("the host has no cgroup controller {v2}"));
    }
    let of_blocks = v2 == "io";
    (of_blocks && inputs.storage.is_none())
        .then(|| "the pod's storage is on no block device".to_owned())
}

/// Why a network is not limited.
fn of_network(inputs: &Inputs<'_>, shared: bool) -> Option<&'static str> {
    if !inputs.options.network.has_plugins() {
        return Some("no plugin makes the pod's network");
    }
    shared.then_some("apps share the pod's network: give the pod a limit")
}

/// What an app's unit says of its cgroup, and of its end when memory is short.
pub(super) fn directives(facts: &HostFacts, resources: &Resources) -> Vec<Directive> {
    let mut directives = limits(facts, resources);
    // The kernel kills one process. An app that has lost a child can tell, and may go on; one that has lost its main
    // process has failed anyway.
    directives.push(("OOMPolicy", "continue".into()));
    if let Some(score) = resources.oom_score_adj {
        directives.push(("OOMScoreAdjust", score.to_string()));
    }
    if resources.of_blocks() {
        // The limits are written by prepare-app ([`crate::limits`]); accounting has systemd make a cgroup for them.
        directives.push(("IOAccounting", "yes".into()));
    }
    directives
}

/// The limits that systemd sets, for a unit or a scope.
pub(super) fn limits(facts: &HostFacts, resources: &Resources) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut add = |key, value: Option<String>| directives.extend(value.map(|value| (key, value)));
    let number = |value: Option<u64>| value.map(|number| number.to_string());
    // A tenth of a percent is a thousandth of a processor. systemd itself lengthens the period for a small quota.
    let percent = |milli: u64| format!("{}.{}%", milli / 10, milli % 10);
    add("CPUQuota", resources.cpu_limit.map(percent));
    // On v1 systemd makes shares of it again, which prepare-app corrects to those that were asked for.
    add("CPUWeight", number(resources.cpu_weight()));
    add("MemoryMax", number(resources.memory_limit));
    let of_v1 = facts.cgroups.has_controller("memory", "", &[]);
    // The limit is one of memory: on v2 swap would come on top. v1 cannot limit swap alone.
    add(
        "MemorySwapMax",
        resources
            .memory_limit
            .filter(|_| !of_v1)
            .map(|_| "0".into()),
    );
    add(
        "MemoryLow",
        number(resources.memory_request).filter(|_| !of_v1),
    );
    add("TasksMax", number(resources.pids_max));
    directives
}

/// The limits of a block device that systemd sets for a scope of the host.
pub(super) fn block_limits(resources: &Resources, device: &str) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut add = |key, limit: Option<u64>| {
        directives.extend(limit.map(|limit| (key, format!("/dev/block/{device} {limit}"))));
    };
    add("IOReadBandwidthMax", resources.block_bandwidth);
    add("IOWriteBandwidthMax", resources.block_bandwidth);
    add("IOReadIOPSMax", resources.block_iops);
    add("IOWriteIOPSMax", resources.block_iops);
    directives
}
