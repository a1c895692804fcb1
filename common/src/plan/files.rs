//! The files of the pod as a whole.

use anyhow::Result;

use super::{Inputs, Step};
use crate::net::resolv_conf;
use crate::options::{HostsMode, ResolvMode};
use crate::pod::{PodDir, StageRoot, machine_name};
use crate::user::Accounts;

pub(super) fn of_pod(dir: &PodDir, inputs: &Inputs<'_>) -> Result<Vec<Step>> {
    let root = dir.stage_root();
    let mut runtime_config = serde_json::to_string_pretty(inputs.options)?;
    runtime_config.push('\n');
    let own = inputs.reached.hosts(&hostname(inputs));
    let hosts = format!("{}{own}", inputs.existing.hosts_fallback);
    let mut steps = vec![
        Step::file(dir.runtime_config(), runtime_config),
        Step::Link {
            path: dir.flavor(),
            target: "nspawn".into(),
        },
        Step::file(
            root.join("etc/machine-id"),
            format!("{}\n", inputs.uuid.digits()),
        ),
        Step::file(root.join("etc/hostname"), format!("{}\n", hostname(inputs))),
        Step::file(root.hosts_fallback(), hosts),
    ];
    steps.extend(accounts(&root, inputs));
    let limit = inputs.pod.journal_max_size.map(|size| {
        let content = format!("[Journal]\nSystemMaxUse={size}\n");
        Step::file(root.journal_limit(), content)
    });
    steps.extend(limit);
    match (inputs.options.resolv, &inputs.existing.host_resolv_conf) {
        (ResolvMode::Host, Some(content)) => {
            steps.push(Step::file(root.resolv_conf(), content.clone()))
        }
        (ResolvMode::Stage0, _) => {}
        (ResolvMode::Default, _) => steps.push(match resolv_conf(&inputs.reached.dns) {
            Some(content) => Step::file(root.resolv_conf(), content),
            None => Step::NoFile {
                path: root.resolv_conf(),
            },
        }),
        _ => steps.push(Step::NoFile {
            path: root.resolv_conf(),
        }),
    }
    match (inputs.options.hosts, &inputs.existing.host_hosts) {
        (HostsMode::Host, Some(content)) => steps.push(Step::file(root.hosts(), content.clone())),
        (HostsMode::Stage0, _) => {
            // Without a network of its own the pod has no address to add.
            let stage0 = inputs.existing.stage0_hosts.as_ref();
            let stage0 = stage0.filter(|_| !inputs.reached.addresses.is_empty());
            steps.extend(stage0.map(|hosts| Step::file(root.hosts(), format!("{hosts}{own}"))));
        }
        _ => steps.push(Step::NoFile { path: root.hosts() }),
    }
    Ok(steps)
}

/// The pod's users and groups, those of its apps among them.
pub(super) fn accounts(root: &StageRoot, inputs: &Inputs<'_>) -> [Step; 2] {
    let apps = inputs.pod.apps.iter();
    let identities: Vec<_> = apps.map(|app| app.identity.clone()).collect();
    let accounts = Accounts::with(&inputs.existing.passwd, &inputs.existing.group, &identities);
    [
        Step::file(root.passwd(), accounts.passwd),
        Step::file(root.group(), accounts.group),
    ]
}

/// The pod's host name. nspawn strips underscores from it, so a name with them is written as it will be.
pub(super) fn hostname(inputs: &Inputs<'_>) -> String {
    let default = || machine_name(inputs.uuid.as_str());
    inputs
        .options
        .hostname
        .clone()
        .unwrap_or_else(default)
        .replace('_', "")
}
