//! What the caller of the run entrypoint hands to it by the protocols of systemd's services: where to tell of the pod's
//! readiness, and sockets for its apps.

use crate::passed::Passed;

/// What the caller hands over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Where it hears of the pod (sd_notify(3), `NOTIFY_SOCKET`): the path of a socket, or an abstract name after `@`.
    pub notify_socket: Option<String>,
    /// Sockets that it has opened for apps (sd_listen_fds(3)), in the order of their descriptors.
    pub sockets: Vec<Passed>,
}
