//! What an app is confined to, and what becomes of each isolator that it asks for.

use anyhow::{Result, bail};
use caps::CapsHashSet;
use serde_json::Value;

use crate::appc::Isolator;
use crate::appc::isolator::{
    APPARMOR_PROFILE, CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET, NO_NEW_PRIVILEGES,
    SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET, SELINUX_CONTEXT, SYSCTL, isolator,
};
use crate::confine::Confinement;
use crate::isolate::seccomp::{self, Compiled};
use crate::isolate::{capability, lsm, resource};
use crate::load::PodApp;
use crate::plan::{Directive, Inputs, refuse_ignored, resources};
use crate::status::{IsolatorReport, Outcome};

/// The confinement of an app.
pub(super) struct Isolation {
    pub(super) confinement: Confinement,
    /// The bounding set that it asks for.
    pub(super) capabilities: CapsHashSet,
    /// The compiled program of its system call filter.
    pub(super) filter: Option<Vec<u8>>,
    /// What systemd enforces.
    pub(super) directives: Vec<Directive>,
    /// What its cgroup is to have.
    pub(super) resources: resource::Resources,
    /// What became of each isolator.
    pub(super) reports: Vec<IsolatorReport>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

pub(super) fn plan(inputs: &Inputs<'_>, app: &PodApp) -> Result<Isolation> {
    let isolators = &app.app.isolators;
    let bounding = capability::bounding(isolators, inputs.facts.last_capability)?;
    let restricted = !inputs.options.disable_capabilities;
    let filter = filter(inputs, isolators, &bounding)?;
    let confinement = Confinement {
        uid: app.identity.uid,
        gid: app.identity.gid,
        groups: app.identity.groups.clone(),
        capabilities: restricted.then(|| capability::names(&bounding)),
        no_new_privileges: no_new_privileges(isolators)?,
        seccomp: filter.is_some(),
        selinux: selinux(inputs, isolators)?,
        apparmor: apparmor(inputs, isolators)?,
    };
    let resources = resources::of_app(inputs, isolators)?;
    let counting = isolators.iter().filter(|i| {
        isolator(isolators, i.name.as_str()).is_some_and(|last| std::ptr::eq(*i, last))
    });
    let reports: Vec<_> = counting
        .map(|isolator| {
            let of_resource = resources.report(inputs, isolator.name.as_str());
            of_resource.unwrap_or_else(|| report(inputs, isolator, filter.as_ref()))
        })
        .collect();
    refuse_ignored(inputs.options, &reports)?;
    let told = reports
        .iter()
        .filter(|report| report.outcome != Outcome::Enforced);
    let warnings = told
        .map(|report| format!("app {}: {report}", app.name()))
        .collect();
    Ok(Isolation {
        confinement,
        capabilities: bounding,
        filter: filter.map(|filter| filter.program),
        directives: resources::directives(inputs.facts, &resources.effective),
        resources: resources.effective,
        reports,
        warnings,
    })
}

/// Whether the isolator asks for no_new_privs (appc specification, "os/linux/no-new-privileges": false by default).
fn no_new_privileges(isolators: &[Isolator]) -> Result<bool> {
    match isolator(isolators, NO_NEW_PRIVILEGES).map(|i| &i.value) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => bail!("{NO_NEW_PRIVILEGES}: {other} must be true or false"),
    }
}

/// The SELinux context, where there is SELinux; that of the pod for an app without one.
fn selinux(inputs: &Inputs<'_>, isolators: &[Isolator]) -> Result<Option<String>> {
    let of_pod = lsm::selinux(&inputs.pod.manifest.isolators)?;
    let asked = lsm::selinux(isolators)?.or(of_pod);
    Ok(asked.filter(|_| inputs.facts.selinux))
}

/// The AppArmor profile, where there is AppArmor; that of the pod for an app without one.
fn apparmor(inputs: &Inputs<'_>, isolators: &[Isolator]) -> Result<Option<String>> {
    let of_pod = lsm::apparmor(&inputs.pod.manifest.isolators)?;
    let asked = lsm::apparmor(isolators)?.or(of_pod);
    let (Some(profile), Some(loaded)) = (asked, &inputs.facts.apparmor) else {
        return Ok(None);
    };
    lsm::check_loaded(&profile, loaded)?;
    Ok(Some(profile))
}

/// The system call filter, compiled; `None` when filters are off.
fn filter(
    inputs: &Inputs<'_>,
    isolators: &[Isolator],
    bounding: &CapsHashSet,
) -> Result<Option<Compiled>> {
    // Read even so: what is wrong in a manifest is told in any case.
    let request = seccomp::request(isolators)?;
    if inputs.options.disable_seccomp {
        return Ok(None);
    }
    if inputs.options.disable_capabilities {
        return seccomp::compile(
            request.as_ref(),
            &capability::all(inputs.facts.last_capability),
        )
        .map(Some);
    }
    if request.is_none() && *bounding == CapsHashSet::from(capability::DEFAULT) {
        let program = inputs.existing.default_filter.clone();
        return Ok(Some(Compiled {
            program,
            notes: Vec::new(),
        }));
    }
    seccomp::compile(request.as_ref(), bounding).map(Some)
}

fn report(inputs: &Inputs<'_>, isolator: &Isolator, filter: Option<&Compiled>) -> IsolatorReport {
    if let (SECCOMP_REMOVE_SET | SECCOMP_RETAIN_SET, Some(filter)) =
        (isolator.name.as_str(), filter)
    {
        let notes = filter.notes.join("; ");
        let modified = !notes.is_empty();
        return IsolatorReport {
            name: isolator.name.to_string(),
            outcome: if modified {
                Outcome::Modified
            } else {
                Outcome::Enforced
            },
            detail: modified.then_some(notes),
        };
    }
    let (outcome, detail) = match isolator.name.as_str() {
        CAPABILITIES_REMOVE_SET | CAPABILITIES_RETAIN_SET
            if inputs.options.disable_capabilities =>
        {
            (
                Outcome::Ignored,
                Some("capabilities are not restricted (--disable-capabilities-restriction)"),
            )
        }
        CAPABILITIES_REMOVE_SET | CAPABILITIES_RETAIN_SET | NO_NEW_PRIVILEGES => {
            (Outcome::Enforced, None)
        }
        SECCOMP_REMOVE_SET | SECCOMP_RETAIN_SET => (
            Outcome::Ignored,
            Some("system calls are not filtered (--disable-seccomp)"),
        ),
        SELINUX_CONTEXT if inputs.facts.selinux => (Outcome::Enforced, None),
        SELINUX_CONTEXT => (Outcome::Ignored, Some("this host has no SELinux")),
        APPARMOR_PROFILE if inputs.facts.apparmor.is_some() => (Outcome::Enforced, None),
        APPARMOR_PROFILE => (Outcome::Ignored, Some("this host has no AppArmor")),
        SYSCTL => (
            Outcome::Ignored,
            Some("only a pod can have kernel parameters"),
        ),
        _ if isolator.is_known() => (Outcome::Ignored, Some("not enforced yet")),
        _ => (Outcome::Ignored, Some("unknown")),
    };
    IsolatorReport {
        name: isolator.name.to_string(),
        outcome,
        detail: detail.map(str::to_owned),
    }
}
