//! What an app is confined to, and what becomes of each isolator that it asks for.

use anyhow::{Result, bail};
use caps::CapsHashSet;
use serde_json::Value;

use crate::appc::Isolator;
use crate::appc::isolator::{
    CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET, NO_NEW_PRIVILEGES, isolator,
};
use crate::confine::Confinement;
use crate::isolate::capability;
use crate::load::PodApp;
use crate::plan::Inputs;
use crate::status::{IsolatorReport, Outcome};

/// A directive of the app's unit, section `[Service]`.
pub(super) type Directive = (&'static str, String);

/// The confinement of an app.
pub(super) struct Isolation {
    pub(super) confinement: Confinement,
    /// The bounding set that it asks for.
    pub(super) capabilities: CapsHashSet,
    /// What systemd enforces.
    pub(super) directives: Vec<Directive>,
    /// What became of each isolator.
    pub(super) reports: Vec<IsolatorReport>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

pub(super) fn plan(inputs: &Inputs<'_>, app: &PodApp) -> Result<Isolation> {
    let isolators = &app.app.isolators;
    let bounding = capability::bounding(isolators, inputs.facts.last_capability)?;
    let restricted = !inputs.options.disable_capabilities;
    let confinement = Confinement {
        uid: app.identity.uid,
        gid: app.identity.gid,
        groups: app.identity.groups.clone(),
        capabilities: restricted.then(|| capability::names(&bounding)),
        no_new_privileges: no_new_privileges(isolators)?,
        seccomp: false,
    };
    let reports: Vec<_> = isolators
        .iter()
        .map(|isolator| report(inputs, isolator))
        .collect();
    let told = reports
        .iter()
        .filter(|report| report.outcome != Outcome::Enforced);
    let warnings = told.map(|report| warning(app.name(), report)).collect();
    Ok(Isolation {
        confinement,
        capabilities: bounding,
        directives: Vec::new(),
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

fn report(inputs: &Inputs<'_>, isolator: &Isolator) -> IsolatorReport {
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
        _ if isolator.is_known() => (Outcome::Ignored, Some("not enforced yet")),
        _ => (Outcome::Ignored, Some("unknown")),
    };
    IsolatorReport {
        name: isolator.name.to_string(),
        outcome,
        detail: detail.map(str::to_owned),
    }
}

fn warning(app: &str, report: &IsolatorReport) -> String {
    let outcome = match report.outcome {
        Outcome::Enforced => "enforced",
        Outcome::Modified => "modified",
        Outcome::Ignored => "ignored",
    };
    let detail = report.detail.as_deref().unwrap_or("without a reason");
    format!("app {app}: isolator {} is {outcome}: {detail}", report.name)
}
