//! Options of `run`, `prepare` and `run-prepared`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{ArgAction, Args, Parser};
use common::appc::{AcName, Annotation, EnvironmentVariable, ExposedPort, Isolator, Mount, Volume};
use common::net::Network;

use super::values::{self, Dns, HostsEntry, Insecure, Ipc, PrivateUsers};

// What applies to all apps of a command line.
#[derive(Debug, Default, Args)]
pub(super) struct SharedOptions {
    /// Mount a volume in every app: volume=NAME,target=/PATH
    #[arg(long, value_name = "MOUNT", value_parser = values::mount)]
    pub(super) mount: Vec<Mount>,
    /// A variable for every app; --environment of an app goes first
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::environment)]
    pub(super) set_env: Vec<EnvironmentVariable>,
}

// What `prepare` and `run` know about the pod.
#[derive(Debug, Args)]
pub(super) struct PodOptions {
    /// Storage: NAME,kind=host,source=/PATH[,readOnly=BOOL][,recursive=BOOL][,idmap=BOOL] or
    /// NAME,kind=empty[,mode=MODE][,uid=UID][,gid=GID]
    #[arg(long, value_name = "VOLUME", value_parser = values::volume)]
    pub(super) volume: Vec<Volume>,
    #[command(flatten)]
    pub(super) shared: SharedOptions,
    /// Run the pod of this manifest, whose images must be in the store
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["volume", "mount", "set_env", "port", "pod_annotation", "mutable",
                                "journal_max_size"])]
    pub(super) pod_manifest: Option<PathBuf>,
    /// An annotation of the pod
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::annotation)]
    pub(super) pod_annotation: Vec<Annotation>,
    /// The most that the pod's journal may take (64Mi), from 4Mi on; 128Mi by default
    #[arg(long, value_name = "BYTES")]
    pub(super) journal_max_size: Option<String>,
    /// Let apps be added and removed while the pod runs, until it is stopped
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) mutable: bool,
    /// Copy the root file systems in place of mounting overlays
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) no_overlay: bool,
    /// Write the pod's UUID to this file
    #[arg(long, value_name = "FILE")]
    pub(super) uuid_file_save: Option<PathBuf>,
    /// Lead a port of the host to a port of an app: NAME:[HOSTIP:]HOSTPORT; in the host's network a socket-activated port
    /// is listened on there
    #[arg(long, value_name = "NAME:PORT", value_parser = values::port)]
    pub(super) port: Vec<ExposedPort>,
    /// Run it in a user namespace, in which root is nobody special on the host: with 65536 ids that no other pod and no
    /// user has, or with those of the host from SHIFT on
    #[arg(long, value_name = "SHIFT:COUNT", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, value_parser = values::private_users)]
    pub(super) private_users: PrivateUsers,
}

// What `run` and `run-prepared` know about the pod.
#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// The network: host, none (loopback only), all, or networks: NAME[:KEY=VALUE;…][,NAME…]; default and
    /// default-restricted are always there, others are configured in net.d of --local-config
    #[arg(long, value_name = "NET", num_args = 0..=1, require_equals = true, default_missing_value = "default",
          default_value = "none", value_parser = values::network)]
    pub(super) net: Network,
    /// Use the network namespace at this path, made by somebody else, and change nothing of it
    #[arg(long, value_name = "PATH", value_parser = values::given_network, conflicts_with = "net")]
    pub(super) net_ns: Option<Network>,
    /// The folder of the local configuration; /etc/rkt by default
    #[arg(long, value_name = "DIR")]
    pub(super) local_config: Option<PathBuf>,
    /// Look for networks in /etc/cni/net.d too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) cni_networks: bool,
    /// The time that a call of a network plugin may take, in seconds; 60 by default
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) cni_timeout: Option<u64>,
    /// The token of the metadata service, by which the apps get AC_METADATA_URL
    #[arg(long, value_name = "TOKEN")]
    pub(super) mds_token: Option<String>,
    /// The host name; rkt-UUID by default
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// A name server for the apps' resolv.conf, or host (the host's file), or none (no file)
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = values::dns)]
    pub(super) dns: Vec<Dns>,
    /// The domain for the apps' resolv.conf
    #[arg(long, value_name = "DOMAIN")]
    pub(super) dns_domain: Option<String>,
    /// A search domain for the apps' resolv.conf
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub(super) dns_search: Vec<String>,
    /// An option for the apps' resolv.conf
    #[arg(long, value_name = "OPTION", value_delimiter = ',')]
    pub(super) dns_opt: Vec<String>,
    /// A line for the apps' hosts file: IP=NAME[,NAME…], or host (the host's file)
    #[arg(long, value_name = "IP=NAME", value_parser = values::hosts_entry)]
    pub(super) hosts_entry: Vec<HostsEntry>,
    /// Connect the only app of the pod to the terminal
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) interactive: bool,
    /// The IPC namespace: private (the pod's own), parent (the host's), or auto (as the stage1 sees fit)
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    pub(super) ipc: Option<Ipc>,
    /// Fail where an isolator of an app or the pod would be ignored
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) strict_isolators: bool,
    /// Go without protections: capabilities, paths, seccomp, all-run (all three, as all); or image or none, which change nothing, because
    /// signatures of images are never checked and digests always are
    #[arg(long, value_name = "LIST", default_value = "none", value_parser = values::insecure)]
    pub(super) insecure_options: Insecure,
}

/// Options of one app, after its image.
#[derive(Debug, Default, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct AppOptions {
    /// The app's name; by default from the image's name
    #[arg(long)]
    pub(super) name: Option<AcName>,
    /// The program, in place of the image's
    #[arg(long, value_name = "PATH")]
    pub(super) exec: Option<String>,
    /// The user: a name, a number, or a path whose owner it is
    #[arg(long)]
    pub(super) user: Option<String>,
    /// The group: a name, a number, or a path whose group it is
    #[arg(long)]
    pub(super) group: Option<String>,
    /// Further groups
    #[arg(long, value_name = "GID,…", value_delimiter = ',')]
    pub(super) supplementary_gids: Option<Vec<u32>>,
    /// The directory to start in
    #[arg(long, value_name = "PATH")]
    pub(super) working_dir: Option<String>,
    /// A variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::environment)]
    pub(super) environment: Vec<EnvironmentVariable>,
    /// Mount a volume: volume=NAME,target=/PATH
    #[arg(long, value_name = "MOUNT", value_parser = values::mount)]
    pub(super) mount: Vec<Mount>,
    /// Mount a volume of the app's own: name=NAME,target=/PATH and what --volume takes
    #[arg(long, value_name = "VOLUME", value_parser = values::app_volume)]
    pub(super) mnt_volume: Vec<Mount>,
    /// Keep the app from writing to its root file system
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(super) readonly_rootfs: bool,
    /// Where standard input comes from: null (default), interactive, or stream or tty, to which one can attach
    #[arg(long, value_name = "MODE", value_parser = values::input)]
    pub(super) stdin: Option<String>,
    /// Where standard output goes: log (default), null, interactive, or stream or tty, to which one can attach
    #[arg(long, value_name = "MODE", value_parser = values::output)]
    pub(super) stdout: Option<String>,
    /// Where standard error goes: log (default), null, interactive, or stream or tty, to which one can attach
    #[arg(long, value_name = "MODE", value_parser = values::output)]
    pub(super) stderr: Option<String>,
    /// An annotation of the app in the pod manifest
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::annotation)]
    pub(super) annotation: Vec<Annotation>,
    /// Metadata of your own
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(super) user_annotation: Vec<(String, String)>,
    /// A label of your own
    #[arg(long, alias = "user-label", value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(super) label: Vec<(String, String)>,
    /// The only capabilities that the app can have, in place of the default ones and the image's choice
    #[arg(long, value_name = "CAP,…", value_parser = values::caps_retain)]
    pub(super) caps_retain: Option<Isolator>,
    /// Capabilities of the default ones that the app cannot have, in place of the image's choice
    #[arg(long, value_name = "CAP,…", value_parser = values::caps_remove, conflicts_with = "caps_retain")]
    pub(super) caps_remove: Option<Isolator>,
    /// The most memory it may have (64Mi, 512M), in place of the image's choice; so for the following
    #[arg(long, value_name = "BYTES", value_parser = values::memory)]
    pub(super) memory: Option<Isolator>,
    /// The most processor time it may have (1.5, 500m)
    #[arg(long, value_name = "CPUS", value_parser = values::cpu)]
    pub(super) cpu: Option<Isolator>,
    /// Its weight in the sharing of processors (2 to 262144, others have 1024)
    #[arg(long, value_name = "SHARES", value_parser = values::cpu_shares)]
    pub(super) cpu_shares: Option<Isolator>,
    /// How readily the kernel kills it when memory is short (-1000 to 1000)
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true, value_parser = values::oom_score_adj)]
    pub(super) oom_score_adj: Option<Isolator>,
    /// The system calls that it may make or not, in place of the default ones and the image's choice:
    /// mode=retain|remove[,errno=NAME],CALL,…
    #[arg(long, value_name = "FILTER", value_parser = values::seccomp)]
    pub(super) seccomp: Option<Isolator>,
}

/// The help for the options of an app.
pub(super) fn app_help() -> &'static str {
    use clap::CommandFactory as _;
    static HELP: LazyLock<String> = LazyLock::new(|| {
        let mut command =
            AppOptions::command().help_template("App options, after their image:\n{options}");
        command.render_help().to_string()
    });
    &HELP
}
