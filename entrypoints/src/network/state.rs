//! What has been set up for a pod, as its directory keeps it for whoever undoes it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use common::apply::write_whole;
use common::net::{NetInfo, Outcome, Plugin, Reached, Version};
use common::pod::PodDir;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The capability of plugins that forward ports.
pub(super) const PORTS: &str = "portMappings";

/// A pod's networks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// By what the plugins know the pod.
    pub(super) container: String,
    /// Where its network namespace is pinned.
    pub(super) namespace: PathBuf,
    /// Where plugins are looked for; the image's own folder from the pod directory, which is renamed.
    pub(super) folders: Vec<PathBuf>,
    /// How long a call may take, in seconds.
    pub(super) timeout: u64,
    /// The networks, in the order in which they were set up.
    pub(super) attachments: Vec<Attachment>,
    /// What they have come to.
    pub(super) reached: Reached,
}

/// A network of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attachment {
    pub(super) name: String,
    /// The app to which it leads ports of the host, where that has come to the running pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<String>,
    pub(super) version: Version,
    /// The file of its configuration.
    pub(super) source: PathBuf,
    /// The interface in the pod.
    pub(super) interface: String,
    /// `CNI_ARGS`.
    pub(super) args: String,
    /// CHECK may be called.
    pub(super) check: bool,
    /// GC may be called.
    pub(super) gc: bool,
    pub(super) plugins: Vec<Step>,
    /// What the plugins get for the capabilities that they have.
    pub(super) capabilities: Map<String, Value>,
    /// How many of the plugins have been called, or were about to be.
    pub(super) called: usize,
    /// The last answer of a plugin of the configuration, as it came.
    pub(super) answer: Option<Value>,
    /// What the last answer means.
    pub(super) outcome: Option<Outcome>,
}

/// A plugin of a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    #[serde(flatten)]
    pub(super) plugin: Plugin,
    /// It is not of the configuration: the pod needs it. It is spoken to in the present version of the protocol.
    pub(super) added: bool,
}

impl std::ops::Deref for Step {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

impl State {
    /// Reads what was set up; `None` when nothing was.
    pub(super) fn read(dir: &PodDir) -> Result<Option<Self>> {
        let path = dir.net_state();
        let context = || format!("read {}", path.display());
        match fs::read(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            content => serde_json::from_slice(&content.with_context(context)?)
                .map(Some)
                .with_context(context),
        }
    }

    /// By what plugins know the pod, and the apps that have come to it with ports of the host.
    pub(super) fn containers(&self) -> Vec<String> {
        let apps = self.attachments.iter().filter(|a| a.app.is_some());
        let apps = apps.map(|attachment| attachment.container(&self.container));
        [self.container.clone()].into_iter().chain(apps).collect()
    }

    /// For root alone: configurations may have secrets.
    pub(super) fn write(&self, dir: &PodDir) -> Result<()> {
        let path = dir.net_state();
        let json = serde_json::to_vec(self)?;
        write_whole(&path, &json, 0o600).with_context(|| format!("write {}", path.display()))
    }
}

/// What the networks of a running pod have come to.
pub(crate) fn reached(dir: &PodDir) -> Result<Reached> {
    Ok(State::read(dir)?
        .map(|state| state.reached)
        .unwrap_or_default())
}

impl Attachment {
    /// Whether one of its plugins takes a capability.
    pub(super) fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.has_capability(name))
    }

    /// Whether it leads ports of the host to the pod.
    pub(super) fn forwards(&self) -> bool {
        self.capabilities.contains_key(PORTS)
    }

    /// By what plugins know what is attached: the pod, or one of its apps.
    pub(super) fn container(&self, pod: &str) -> String {
        match &self.app {
            Some(app) => format!("{pod}-{app}"),
            None => pod.to_owned(),
        }
    }

    /// The version that a plugin is spoken to in.
    pub(super) fn spoken(&self, step: &Step) -> Version {
        if step.added {
            Version::ONE
        } else {
            self.version
        }
    }

    /// The configuration that a plugin gets, at every call the same but for the answer of others.
    pub(super) fn config(&self, step: &Step, answer: Option<Value>) -> Map<String, Value> {
        let mut config = step.config.clone();
        config.insert("name".into(), self.name.clone().into());
        config.insert("cniVersion".into(), self.spoken(step).to_string().into());
        let capabilities = self.capabilities.iter();
        let taken: Map<_, _> = capabilities
            .filter(|(name, _)| step.has_capability(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !taken.is_empty() {
            config.insert("runtimeConfig".into(), taken.into());
        }
        config.extend(answer.map(|answer| ("prevResult".into(), answer)));
        config
    }

    /// The answer so far, for the next plugin: in versions that know of it.
    pub(super) fn before(&self, step: &Step) -> Result<Option<Value>> {
        if step.added {
            return self.outcome.as_ref().map(Outcome::to_present).transpose();
        }
        let known = self.version >= Version::INTERFACES;
        Ok(self.answer.clone().filter(|_| known))
    }

    /// The answer in the end, for CHECK and DEL: in versions that know of it.
    pub(super) fn after(&self, step: &Step) -> Result<Option<Value>> {
        let known = self.spoken(step) >= Version::CHECK;
        Ok(self.before(step)?.filter(|_| known))
    }

    /// What stage0s are told.
    pub(super) fn info(&self, outcome: &Outcome, folders: &[PathBuf]) -> NetInfo {
        let program = &self.plugins[0].program;
        let found = super::call::find(folders, program);
        let info = NetInfo {
            net_name: self.name.clone(),
            net_conf: self.source.clone(),
            plugin_path: found.unwrap_or_else(|_| Path::new(program).to_owned()),
            if_name: self.interface.clone(),
            ip: None,
            args: self.args.clone(),
            mask: None,
            addresses: Vec::new(),
        };
        info.with_addresses(outcome.ips.iter().map(|ip| ip.address).collect())
    }

    /// As `--debug` prints it.
    pub(super) fn line(&self) -> String {
        let mut line = format!("network {} {}", self.name, self.interface);
        for ip in self.outcome.iter().flat_map(|outcome| &outcome.ips) {
            line.push_str(&format!(" {}", ip.address));
        }
        line
    }
}
