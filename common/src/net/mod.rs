//! The networks of a pod, by the Container Network Interface (CNI, github.com/containernetworking/cni, SPEC.md): which
//! are asked for, how they are configured, what their plugins answer, and what others are told of them.
//!
//! Everything here is values: the plugins are called by the entrypoints, whose module `network` makes the pod's network
//! namespace too.

mod bandwidth;
mod choice;
mod config;
mod info;
mod list;
mod ports;
mod reached;
mod result;
mod version;

use std::path::{Path, PathBuf};

pub use bandwidth::{bandwidth, shaping};
pub(crate) use bandwidth::{network_bandwidth, sole_app};
pub use choice::{Chosen, choose};
pub use config::{Config, Folder, Plugin, read_folder};
pub use info::{NetInfo, read_infos};
pub use list::{Network, Wanted};
pub use ports::{Forward, conflict, forwards, forwards_to};
pub use reached::{Reached, resolv_conf};
pub use result::{Address, Dns, Interface, Outcome, Route};
pub use version::Version;

/// Where the configurations of the image are, from its root; also the name of the folder in that of `--local-config`.
pub const BUILT_IN: &str = "etc/rkt/net.d";

/// The folder of configurations in that of `--local-config`.
pub const LOCAL: &str = "net.d";

/// Where other programs of a host keep configurations (`--cni-networks`), from the host's root.
pub const OF_HOST: &str = "etc/cni/net.d";

/// Where plugins are looked for on the host, from its root and in this order; the image's own ([`OF_IMAGE`]) come last.
pub const PLUGINS: [&str; 3] = ["opt/cni/bin", "usr/lib/cni", "usr/lib/rkt/plugins/net"];

/// The image's own plugins, from its root.
pub const OF_IMAGE: &str = "usr/lib/cni";

/// Where the pod's network namespace is pinned, by the name by which ip-netns(8) knows it too.
pub fn namespace(host: &Path, machine: &str) -> PathBuf {
    host.join("run/netns").join(machine)
}
