//! `run` and `run-prepared`.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use common::annotation;
use common::appc::{self, PodManifest};

use super::options::{PodOptions, RunOptions, app_help};
use super::split::AppWords;
use super::values::{Dns as DnsValue, HostsEntry};
use super::{Context, apps};
use crate::pod::Place;
use crate::pod::delete::delete_tree;
use crate::pod::dns::{Dns, Hosts, Resolv, ResolvConf};
use crate::pod::run::{RunConfig, RunOption, run, take_prepared};
use crate::pod::undo::Undo;
use crate::store::Store;
use crate::whole;

// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = app_help())]
pub(super) struct Run {
    #[command(flatten)]
    pod: PodOptions,
    #[command(flatten)]
    run: RunOptions,
}

// Options of `app sandbox`.
#[derive(Debug, Args)]
pub(super) struct Sandbox {
    #[command(flatten)]
    pod: PodOptions,
    #[command(flatten)]
    run: RunOptions,
}

// Options of `run-prepared`.
#[derive(Debug, Args)]
pub(super) struct RunPrepared {
    /// The pod: its UUID, or a unique beginning of it
    uuid: String,
    #[command(flatten)]
    run: RunOptions,
}

impl Run {
    pub(super) fn execute(self, context: &Context, apps: Vec<AppWords>) -> Result<()> {
        let config = config(&self.run, context.debug)?;
        let (store, manifest, prepared) = apps::prepare_pod(context, &self.pod, apps)?;
        let uuid = &prepared.uuid;
        let mut undo = Undo::default();
        undo.push(|| delete_tree(context.pods.dir(Place::Prepared, uuid).path()));
        check_terminal(&manifest, &config)?;
        if let Some(file) = &self.pod.uuid_file_save {
            whole::write(file, format!("{uuid}\n").as_bytes())?;
            undo.push(move || {
                std::fs::remove_file(file).with_context(|| format!("delete {}", file.display()))
            });
        }
        match run(&context.pods, store, &prepared, &config)? {}
    }
}

impl Sandbox {
    /// A pod without apps, to which apps are added.
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let Self { mut pod, run } = self;
        ensure!(
            pod.shared.mount.is_empty() && pod.shared.set_env.is_empty(),
            "--mount and --set-env: give them to app add"
        );
        pod.mutable = pod.pod_manifest.is_none();
        Run { pod, run }.execute(context, Vec::new())
    }
}

impl RunPrepared {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let config = config(&self.run, context.debug)?;
        let uuid = context.pods.find(&self.uuid)?;
        let prepared = take_prepared(&context.pods, &uuid)?;
        let store = Store::open(&context.data)?;
        match run(&context.pods, store, &prepared, &config)? {}
    }
}

/// One terminal is for one app.
fn check_terminal(manifest: &PodManifest, config: &RunConfig) -> Result<()> {
    let apps = manifest.apps.len();
    if config.interactive && apps != 1 {
        bail!("--interactive: the pod has {apps} apps, not one");
    }
    let streams = [annotation::STDIN, annotation::STDOUT, annotation::STDERR];
    let interactive = manifest.apps.iter().any(|app| {
        let mode = |name: &&str| appc::annotation(&app.annotations, name);
        streams.iter().any(|name| mode(name) == Some("interactive"))
    });
    if interactive && apps != 1 {
        bail!("interactive streams: the pod has {apps} apps, not one");
    }
    Ok(())
}

fn config(options: &RunOptions, debug: bool) -> Result<RunConfig> {
    let mut words = Vec::new();
    let mut add = |since: u32, text: String| words.push(RunOption { since, text });
    if debug {
        add(1, "--debug".into());
    }
    match &options.net_ns {
        Some(path) => add(6, format!("--net-ns={path}")),
        None => add(1, format!("--net={}", options.net)),
    }
    if let Some(dir) = &options.local_config {
        // The entrypoint has another working directory.
        let dir = std::path::absolute(dir).context("--local-config")?;
        let dir = dir.to_str().context("--local-config: is not UTF-8")?;
        add(1, format!("--local-config={dir}"));
    }
    if options.cni_networks {
        add(6, "--cni-networks".into());
    }
    if let Some(seconds) = options.cni_timeout {
        add(6, format!("--cni-timeout={seconds}"));
    }
    if let Some(token) = &options.mds_token {
        add(1, format!("--mds-token={token}"));
    }
    if options.interactive {
        add(1, "--interactive".into());
    }
    if let Some(hostname) = &options.hostname {
        add(2, format!("--hostname={hostname}"));
    }
    let insecure = &options.insecure_options;
    for (disable, what) in [
        (insecure.capabilities, "capabilities-restriction"),
        (insecure.paths, "paths"),
        (insecure.seccomp, "seccomp"),
    ] {
        if disable {
            add(3, format!("--disable-{what}"));
        }
    }
    if options.strict_isolators {
        add(6, "--strict-isolators".into());
    }
    if let Some(ipc) = options.ipc {
        add(6, format!("--ipc={}", ipc.as_str()));
    }
    Ok(RunConfig {
        options: words,
        interactive: options.interactive,
        dns: Dns {
            resolv: resolv(options)?,
            hosts: hosts(&options.hosts_entry)?,
        },
    })
}

fn resolv(options: &RunOptions) -> Result<Resolv> {
    let (domain, search) = (options.dns_domain.as_deref(), &options.dns_search);
    let more = domain.is_some() || !search.is_empty() || !options.dns_opt.is_empty();
    let mut servers = Vec::new();
    for value in &options.dns {
        match value {
            DnsValue::Server(server) => servers.push(*server),
            DnsValue::Host | DnsValue::None => {
                ensure!(
                    options.dns.len() == 1 && !more,
                    "--dns: host and none stand alone"
                );
            }
        }
    }
    Ok(match options.dns.first() {
        Some(DnsValue::Host) => Resolv::Host,
        Some(DnsValue::None) => Resolv::None,
        None if !more => Resolv::Default,
        _ => Resolv::Content(
            ResolvConf {
                servers: &servers,
                domain,
                search,
                options: &options.dns_opt,
            }
            .content(),
        ),
    })
}

fn hosts(entries: &[HostsEntry]) -> Result<Hosts> {
    let mut lines = String::new();
    for entry in entries {
        match entry {
            HostsEntry::Host => {
                ensure!(entries.len() == 1, "--hosts-entry: host stands alone");
                return Ok(Hosts::Host);
            }
            HostsEntry::Line { ip, names } => {
                lines.push_str(&format!("{ip} {}\n", names.join(" ")));
            }
        }
    }
    Ok(match entries.is_empty() {
        true => Hosts::Default,
        false => Hosts::Lines(lines),
    })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
