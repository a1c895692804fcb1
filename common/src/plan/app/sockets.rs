//! The units of an app's sockets.

use crate::listen::{Socket, Sockets};
use crate::plan::Step;
use crate::pod::StageRoot;
use crate::unit::{Unit, app_unit, passed_unit, socket_unit};

/// The names of the units of an app's sockets.
pub(super) fn names(app: &str, sockets: &[Socket]) -> Vec<String> {
    let any = |passed: bool| sockets.iter().any(|socket| socket.passed == passed);
    let own = any(false).then(|| socket_unit(app));
    own.into_iter()
        .chain(any(true).then(|| passed_unit(app)))
        .collect()
}

/// The units that listen on all of them. The app's service needs them, so they start with the pod, as in rkt, and the app
/// is not started by the first connection. They stop when the app has ended: a connection must not start the app again.
/// While the app is to be started again they go on listening, so no client is turned away.
///
/// Those that the caller has passed are apart: systemd takes a unit of which it finds some open for one that is, and opens
/// no more of it.
pub(super) fn units(app: &str, sockets: &[Socket]) -> Vec<Unit> {
    let unit = |name: &String| {
        let passed = *name == passed_unit(app);
        let own = sockets.iter().filter(|socket| socket.passed == passed);
        own.fold(start(app, name, passed), |unit, socket| {
            let (key, value) = socket.directive();
            unit.set(key, value)
        })
    };
    names(app, sockets).iter().map(unit).collect()
}

fn start(app: &str, name: &str, passed: bool) -> Unit {
    Unit::new(name)
        .section("Unit")
        .set("Description", format!("Sockets of app {app}"))
        .set("DefaultDependencies", "no")
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target")
        .set("StopWhenUnneeded", "yes")
        .section("Socket")
        .set_some("Service", passed.then(|| app_unit(app)))
        // Whatever the host's net.ipv6.bindv6only says.
        .set("BindIPv6Only", "both")
        // Connections to an app that fails often are no reason to stop listening.
        .set("TriggerLimitBurst", "0")
}

/// Has systemd know the units of passed sockets before anything is started: then is when it gives each socket that it has
/// inherited to the unit that would listen on the same address. Units that nothing names are not loaded yet, but every slice
/// is.
pub(in crate::plan) fn early(root: &StageRoot, sockets: &Sockets) -> Option<Step> {
    let passed = |(app, sockets): (&String, &Vec<Socket>)| {
        let any = sockets.iter().any(|socket| socket.passed);
        any.then(|| passed_unit(app))
    };
    let units: Vec<_> = sockets.iter().filter_map(passed).collect();
    let content = format!("[Unit]\nBefore={}\n", units.join(" "));
    let path = root.units().join("-.slice.d/passed.conf");
    (!units.is_empty()).then(|| Step::file(path, content))
}
