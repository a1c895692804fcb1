//! The unit of an app's sockets.

use crate::listen::Socket;
use crate::unit::{Unit, socket_unit};

/// The unit that listens on all of them. The app's service needs it, so it starts with the pod, as in rkt, and the app is
/// not started by the first connection. It stops when the app has ended: a connection must not start the app again. While
/// the app is to be started again it goes on listening, so no client is turned away.
pub(super) fn unit(app: &str, sockets: &[Socket]) -> Unit {
    let unit = Unit::new(socket_unit(app))
        .section("Unit")
        .set("Description", format!("Sockets of app {app}"))
        .set("DefaultDependencies", "no")
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target")
        .set("StopWhenUnneeded", "yes")
        .section("Socket")
        // Whatever the host's net.ipv6.bindv6only says.
        .set("BindIPv6Only", "both")
        // Connections to an app that fails often are no reason to stop listening.
        .set("TriggerLimitBurst", "0");
    sockets.iter().fold(unit, |unit, socket| {
        let (key, value) = socket.directive();
        unit.set(key, value)
    })
}
