//! Which networks a pod gets and how their plugins are called, before anything is changed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::annotation;
use common::appc::{self, Uuid};
use common::load::Pod;
use common::net::{
    BUILT_IN, Chosen, Forward, LOCAL, Network, OF_HOST, OF_IMAGE, PLUGINS, Plugin, Reached,
    bandwidth, choose, forwards, namespace as pinned, read_folder, shaping,
};
use common::options::RunOptions;
use common::pod::{PodDir, machine_name};
use serde_json::{Map, Value, json};

use super::call::find;
use super::claims::PORTMAP;
use super::held::hold;
use super::namespace;
use super::state::{Attachment, PORTS, State, Step};

/// The capability of plugins that limit traffic.
const BANDWIDTH: &str = "bandwidth";

/// What a pod's networks depend on.
pub(crate) struct Wishes<'a> {
    pub(crate) dir: &'a PodDir,
    pub(crate) uuid: &'a Uuid,
    pub(crate) pod: &'a Pod,
    pub(crate) options: &'a RunOptions,
}

/// The networks that a pod gets.
pub(crate) struct Prepared {
    pub(super) state: State,
    pub(super) attachments: Vec<Attachment>,
    pub(super) forwards: Vec<Forward>,
    pub(super) ports: Vec<OwnedFd>,
    /// Whether the pod has a user namespace.
    pub(super) users: bool,
}

/// Finds out what is to be set up; `None` when no plugin is needed.
///
/// # Errors
/// A configuration or a plugin that is missing or spoilt, a port of the host that cannot be had.
pub(crate) fn prepare(host: &Path, wishes: &Wishes<'_>) -> Result<Option<Prepared>> {
    let (dir, options) = (wishes.dir, wishes.options);
    if let Network::Given(path) = &options.network {
        namespace::is_namespace(path).with_context(|| format!("--net-ns={}", path.display()))?;
    }
    if !options.network.has_plugins() {
        return Ok(None);
    }
    let root = dir.stage_root();
    let mut folders = vec![read_folder(&Path::new(&options.local_config).join(LOCAL))?];
    if options.cni_networks {
        folders.push(read_folder(&host.join(OF_HOST))?);
    }
    folders.push(read_folder(&root.join(BUILT_IN))?);
    let chosen = choose(&options.network, folders)?;
    let forwards = forwards(wishes.pod)?;
    let args = pod_args(wishes);
    let mut attachments: Vec<_> = chosen
        .into_iter()
        .enumerate()
        .map(|(i, chosen)| attachment(i, chosen, args.as_deref()))
        .collect();
    forward(&mut attachments, &forwards)?;
    if let Some(bytes) = bandwidth(wishes.pod)? {
        limit(&mut attachments, bytes)?;
    }
    let mut plugins: Vec<PathBuf> = PLUGINS.map(|folder| host.join(folder)).into();
    // From the pod directory, which is the working directory: it is renamed before gc comes.
    plugins.push(PodDir::new("").stage_root().join(OF_IMAGE));
    for attachment in &attachments {
        programs(attachment, &plugins).with_context(|| format!("network {}", attachment.name))?;
    }
    let state = State {
        container: wishes.uuid.to_string(),
        namespace: pinned(host, &machine_name(wishes.uuid.as_str())),
        folders: plugins,
        timeout: options.cni_timeout,
        attachments: Vec::new(),
        reached: Reached::default(),
    };
    let ports = hold(&forwards)?;
    Ok(Some(Prepared {
        state,
        attachments,
        forwards,
        ports,
        users: options.private_users.is_some(),
    }))
}

fn attachment(number: usize, chosen: Chosen, pod_args: Option<&str>) -> Attachment {
    let config = chosen.config;
    let args = [
        pod_args,
        Some(chosen.args.as_str()).filter(|args| !args.is_empty()),
    ];
    Attachment {
        name: config.name,
        app: None,
        version: config.version,
        source: config.source,
        interface: format!("eth{number}"),
        args: args.into_iter().flatten().collect::<Vec<_>>().join(";"),
        check: config.check,
        gc: config.gc,
        plugins: config
            .plugins
            .into_iter()
            .map(|plugin| Step {
                plugin,
                added: false,
            })
            .collect(),
        capabilities: Map::new(),
        called: 0,
        answer: None,
        outcome: None,
    }
}

/// The arguments by which plugins know a pod of Kubernetes, where its manifest says that it is one; plugins that know
/// other arguments are told not to mind.
fn pod_args(wishes: &Wishes<'_>) -> Option<String> {
    let of_pod = |name| appc::annotation(&wishes.pod.manifest.annotations, name);
    let name = of_pod(annotation::KUBERNETES_POD_NAME)?;
    let namespace = of_pod(annotation::KUBERNETES_POD_NAMESPACE).unwrap_or("default");
    let uid = of_pod(annotation::KUBERNETES_POD_UID);
    let uid = uid
        .map(|uid| format!(";K8S_POD_UID={uid}"))
        .unwrap_or_default();
    Some(format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={}{uid}",
        wishes.uuid
    ))
}

/// Has a network forward ports: the first whose plugins can, else the first with one more plugin.
fn forward(attachments: &mut [Attachment], forwards: &[Forward]) -> Result<()> {
    if forwards.is_empty() {
        return Ok(());
    }
    let able = attachments.iter().position(|a| a.has_capability(PORTS));
    let Some(attachment) = attachments.get_mut(able.unwrap_or(0)) else {
        return Ok(());
    };
    if able.is_none() {
        add(attachment, portmap())?;
    }
    attachment
        .capabilities
        .insert(PORTS.to_owned(), mappings(forwards));
    Ok(())
}

fn portmap() -> Value {
    json!({ "type": PORTMAP, "snat": true, "capabilities": { PORTS: true } })
}

fn mappings(forwards: &[Forward]) -> Value {
    forwards.iter().map(Forward::mapping).collect()
}

/// How ports lead to an app that comes to a running pod: in the network that the pod's own ones are forwarded in, or would
/// be, by a call of the plugin for this app alone.
pub(super) fn of_app(state: &State, app: &str, forwards: &[Forward]) -> Result<Attachment> {
    let mut networks = state.attachments.iter().filter(|a| a.app.is_none());
    let able = networks.clone().find(|a| a.has_capability(PORTS));
    let network = able.or(networks.next()).context("the pod has no network")?;
    let configured = network.plugins.iter().find(|p| p.program == PORTMAP);
    let mut attachment = Attachment {
        app: Some(app.to_owned()),
        check: false,
        gc: false,
        plugins: Vec::new(),
        capabilities: Map::from_iter([(PORTS.to_owned(), mappings(forwards))]),
        called: 0,
        answer: None,
        ..network.clone()
    };
    let config = configured.map(|step| Value::Object(step.config.clone()));
    add(&mut attachment, config.unwrap_or_else(portmap))?;
    programs(&attachment, &state.folders)?;
    Ok(attachment)
}

/// Has every network limit the traffic of the pod: its own plugins if they can, else one more.
fn limit(attachments: &mut [Attachment], bytes: u64) -> Result<()> {
    for attachment in attachments {
        if !attachment.has_capability(BANDWIDTH) {
            let capabilities = json!({ BANDWIDTH: true });
            add(
                attachment,
                json!({ "type": "bandwidth", "capabilities": capabilities }),
            )?;
        }
        attachment
            .capabilities
            .insert(BANDWIDTH.to_owned(), shaping(bytes));
    }
    Ok(())
}

fn add(attachment: &mut Attachment, config: Value) -> Result<()> {
    let plugin = Plugin::new(serde_json::from_value(config)?)?;
    attachment.plugins.push(Step {
        plugin,
        added: true,
    });
    Ok(())
}

/// Looks for the programs of a network, of those too that its plugins call.
fn programs(attachment: &Attachment, folders: &[PathBuf]) -> Result<()> {
    for step in &attachment.plugins {
        find(folders, &step.program)?;
        let ipam = step.config.get("ipam").and_then(|ipam| ipam.get("type"));
        if let Some(ipam) = ipam.and_then(Value::as_str).filter(|ipam| !ipam.is_empty()) {
            find(folders, ipam)?;
        }
    }
    Ok(())
}
