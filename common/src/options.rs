//! The options of the run entrypoint (contract.md, "Options of run"), read and checked. They are kept in the pod's
//! `runtime-config`, where the entrypoints that change the pod later find them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::flags::{Flag, Parsed, switch, value};
use crate::id_range::IdRange;
use crate::net::{Network, Reached};

/// Flags of the run entrypoint.
pub const FLAGS: [Flag; 17] = [
    switch("debug", "print the plan and more messages"),
    value(
        "net",
        "NET",
        "host, none, all, or networks: NAME[:KEY=VALUE;...],... (default none)",
    ),
    value(
        "net-ns",
        "PATH",
        "use the network namespace at this path, which is not changed (in place of --net)",
    ),
    switch("cni-networks", "look for networks in /etc/cni/net.d too"),
    value(
        "cni-timeout",
        "SECONDS",
        "the time that a call of a network plugin may take (default 60)",
    ),
    value(
        "mds-token",
        "TOKEN",
        "token of the metadata service, for AC_METADATA_URL",
    ),
    switch("interactive", "give the app this terminal"),
    value(
        "local-config",
        "DIR",
        "folder of the local configuration (default /etc/rkt)",
    ),
    value(
        "private-users",
        "SHIFT:COUNT",
        "run in a user namespace with this range of ids",
    ),
    switch(
        "mutable",
        "start without ending when no app runs; apps may come and go",
    ),
    value(
        "hostname",
        "NAME",
        "host name of the pod (default rkt-UUID)",
    ),
    switch(
        "disable-capabilities-restriction",
        "do not restrict capabilities",
    ),
    switch("disable-paths", "do not protect paths of /proc and /sys"),
    switch("disable-seccomp", "do not filter system calls"),
    switch(
        "strict-isolators",
        "fail where an isolator would be ignored",
    ),
    value(
        "dns-conf-mode",
        "MODE",
        "resolv=host|stage0|none|default,hosts=host|stage0|default (default for both: default)",
    ),
    value(
        "ipc",
        "MODE",
        "IPC namespace: auto, private or parent (default private)",
    ),
];

/// How a pod is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOptions {
    /// More messages.
    pub debug: bool,
    /// The network.
    pub network: Network,
    /// Networks are looked for where the host's other programs keep theirs, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cni_networks: bool,
    /// How long a call of a network plugin may take, in seconds.
    #[serde(default = "cni_timeout", skip_serializing_if = "is_cni_timeout")]
    pub cni_timeout: u64,
    /// Token of the metadata service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mds_token: Option<String>,
    /// The app has the caller's terminal.
    pub interactive: bool,
    /// Folder of the local configuration.
    pub local_config: String,
    /// Range of ids of the pod's user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_users: Option<IdRange>,
    /// Apps may come and go.
    pub mutable: bool,
    /// Host name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Capabilities are not restricted.
    pub disable_capabilities: bool,
    /// Paths of /proc and /sys are not protected.
    pub disable_paths: bool,
    /// System calls are not filtered.
    pub disable_seccomp: bool,
    /// An isolator that is ignored is an error.
    #[serde(default)]
    pub strict_isolators: bool,
    /// The SELinux context of what is mounted for the pod, which no option but the environment has
    /// (`RKT_SELINUX_MOUNT_CONTEXT`): apps that are added later need it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_context: Option<String>,
    /// Where `resolv.conf` comes from.
    pub resolv: ResolvMode,
    /// Where `hosts` comes from.
    pub hosts: HostsMode,
    /// The IPC namespace.
    pub ipc: Ipc,
}

/// Where the apps' `/etc/resolv.conf` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResolvMode {
    /// The host's.
    Host,
    /// stage0 wrote it.
    Stage0,
    /// The image's own stays.
    None,
    /// The network's, if it gives one, else the image's own.
    Default,
}

/// Where the apps' `/etc/hosts` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostsMode {
    /// The host's.
    Host,
    /// stage0 wrote it.
    Stage0,
    /// The image's own, else a short one.
    Default,
}

/// The IPC namespace of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipc {
    /// Its own.
    Private,
    /// That of the caller.
    Parent,
}

impl RunOptions {
    /// Takes the options from a command line.
    ///
    /// # Errors
    /// A value that is none of the allowed ones; the message names the option.
    pub fn from_flags(flags: &Parsed) -> Result<Self> {
        let (resolv, hosts) = dns_modes(flags.value("dns-conf-mode").unwrap_or_default())?;
        Ok(RunOptions {
            debug: flags.is_set("debug"),
            network: network(flags)?,
            cni_networks: flags.is_set("cni-networks"),
            cni_timeout: flags
                .value("cni-timeout")
                .map_or(Ok(cni_timeout()), seconds)?,
            mds_token: flags
                .value("mds-token")
                .filter(|t| !t.is_empty())
                .map(Into::into),
            interactive: flags.is_set("interactive"),
            local_config: flags.value("local-config").unwrap_or("/etc/rkt").into(),
            private_users: private_users(flags)?,
            mutable: flags.is_set("mutable"),
            hostname: flags
                .value("hostname")
                .filter(|h| !h.is_empty())
                .map(hostname)
                .transpose()?,
            disable_capabilities: flags.is_set("disable-capabilities-restriction"),
            disable_paths: flags.is_set("disable-paths"),
            disable_seccomp: flags.is_set("disable-seccomp"),
            strict_isolators: flags.is_set("strict-isolators"),
            mount_context: None,
            resolv,
            hosts,
            ipc: ipc(flags.value("ipc").unwrap_or_default())?,
        })
    }

    /// Reads the options that a running pod was started with.
    ///
    /// # Errors
    /// When the file is not there or not one that init has written.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("read {}", path.display());
        let content = std::fs::read(path).with_context(context)?;
        serde_json::from_slice(&content).with_context(context)
    }

    /// The URL of the metadata service as apps see it.
    pub fn metadata_url(&self, reached: &Reached) -> Option<String> {
        // The host is reached at 127.0.0.1 in its own network; a pod with loopback alone reaches nobody.
        let host = reached.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let host = SocketAddr::new(host, METADATA_PORT);
        let token = self.mds_token.as_ref();
        token.map(|token| format!("http://{host}/{token}"))
    }
}

/// The port of the metadata service (contract.md).
const METADATA_PORT: u16 = 18112;

fn network(flags: &Parsed) -> Result<Network> {
    match (flags.value("net"), flags.value("net-ns")) {
        (None, Some(path)) => Network::given(path).context("--net-ns"),
        (Some(_), Some(_)) => bail!("--net and --net-ns: give one of them"),
        (net, None) => {
            let net = net.unwrap_or("none");
            Network::parse(net).with_context(|| format!("--net={net}"))
        }
    }
}

fn cni_timeout() -> u64 {
    60
}

fn is_cni_timeout(seconds: &u64) -> bool {
    *seconds == cni_timeout()
}

fn seconds(text: &str) -> Result<u64> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.with_context(|| format!("--cni-timeout={text}: must be a number of seconds"))
}

/// The range of ids that `--private-users` names, if it is given.
///
/// # Errors
/// When it is no range.
pub fn private_users(flags: &Parsed) -> Result<Option<IdRange>> {
    let Some(range) = flags.value("private-users").filter(|r| !r.is_empty()) else {
        return Ok(None);
    };
    let users = range.parse().map(Some);
    users.with_context(|| format!("--private-users={range}"))
}

/// A host name as hostname(7) has it, underscores too, which people use although DNS does not know them. nspawn strips
/// them, and what is left must be a name.
fn hostname(name: &str) -> Result<String> {
    let label = |l: &str| {
        let l = l.replace('_', "");
        let fits = !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
        fits && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.len() > 64 || !name.split('.').all(label) {
        bail!(
            "--hostname={name}: must be labels of letters, digits and dashes, with dots between, 64 bytes at most"
        );
    }
    Ok(name.to_owned())
}

fn dns_modes(modes: &str) -> Result<(ResolvMode, HostsMode)> {
    let (mut resolv, mut hosts) = (ResolvMode::Default, HostsMode::Default);
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode.split_once('=') {
            Some(("resolv", "host")) => resolv = ResolvMode::Host,
            Some(("resolv", "stage0")) => resolv = ResolvMode::Stage0,
            Some(("resolv", "none")) => resolv = ResolvMode::None,
            Some(("resolv", "default")) => resolv = ResolvMode::Default,
            Some(("hosts", "host")) => hosts = HostsMode::Host,
            Some(("hosts", "stage0")) => hosts = HostsMode::Stage0,
            Some(("hosts", "default")) => hosts = HostsMode::Default,
            _ => bail!(
                "--dns-conf-mode: {mode:?} must be resolv=host|stage0|none|default or hosts=host|stage0|default"
            ),
        }
    }
    Ok((resolv, hosts))
}

fn ipc(mode: &str) -> Result<Ipc> {
    match mode {
        "" | "auto" | "private" => Ok(Ipc::Private),
        "parent" => Ok(Ipc::Parent),
        other => bail!("--ipc={other}: must be auto, private or parent"),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
