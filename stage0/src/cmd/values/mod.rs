//! Values of options, in rkt's spelling.

mod capabilities;
mod dns;
mod environment;
mod port;
mod resources;
mod run;
mod seccomp;
mod stream;
mod volume;

pub(crate) use capabilities::{caps_remove, caps_retain};
pub(crate) use dns::{Dns, HostsEntry, dns, hosts_entry};
pub(crate) use environment::{annotation, environment, pair};
pub(crate) use port::port;
pub(crate) use resources::{cpu, cpu_shares, memory, oom_score_adj};
pub(crate) use run::{
    Insecure, Ipc, PrivateUsers, given_network, insecure, network, private_users,
};
pub(crate) use seccomp::seccomp;
pub(crate) use stream::{Attachment, attachment, input, output};
pub(crate) use volume::{app_volume, mount, volume};

/// The `KEY=VALUE` elements of a comma-separated list.
fn fields(list: &str) -> impl Iterator<Item = anyhow::Result<(&str, &str)>> {
    list.split(',').map(|field| match field.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(anyhow::anyhow!("{field:?}: must be KEY=VALUE")),
    })
}
