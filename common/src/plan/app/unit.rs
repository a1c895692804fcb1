//! The unit of an app.

use super::streams::{Stream, Streams};
use crate::listen::Sockets;
use crate::load::PodApp;
use crate::plan::{Directive, Inputs, POD_UNIT};
use crate::unit::{Unit, app_unit, escape, socket_unit};

/// The unit of an app. What it leaves to `prepare-app`, and why, stands in that program.
pub(super) fn unit(
    inputs: &Inputs<'_>,
    app: &PodApp,
    streams: &Streams,
    directives: &[Directive],
    sockets: &Sockets,
) -> Unit {
    let name = app.name();
    let immutable = !inputs.options.mutable;
    let keeps_pod = immutable.then_some(POD_UNIT);
    let groups = app
        .identity
        .groups
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let terminal = streams.stdin == Stream::Terminal;
    let unit = Unit::new(app_unit(name))
        .section("Unit")
        .set(
            "Description",
            escape::text(&format!("App {name} of image {}", app.image.name)),
        )
        .set("DefaultDependencies", "no")
        .set_some("Requires", keeps_pod)
        .set_some("After", keeps_pod)
        // Wanted and not required: when one cannot be opened, the app's own program says why, and the app has failed.
        .set_some("Wants", sockets.get(name).map(|_| socket_unit(name)))
        // All of them: an app finds the others listening already.
        .set_some("After", after(sockets))
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target supervisor-ready.service")
        .set_some("FailureAction", immutable.then_some("exit"))
        .section("Service")
        .set("Type", "exec")
        // A slow handler must not be killed for it (rkt#1547); the program itself starts at once.
        .set_some(
            "TimeoutStartSec",
            handler(app, "pre-start").and(Some("infinity")),
        )
        .set_some("ExecStartPre", handler(app, "pre-start"))
        .set(
            "ExecStart",
            format!(":!/prepare-app {name} -- {}", escape::words(&app.app.exec)),
        )
        // "-": how the app ended is what counts, and the reaper comes after in any case.
        .set_some(
            "ExecStopPost",
            handler(app, "post-stop").map(|command| format!("-{command}")),
        )
        .set("ExecStopPost", format!("+/reaper {name}"))
        .set("User", app.identity.uid.to_string())
        .set("Group", app.identity.gid.to_string())
        .set_some(
            "SupplementaryGroups",
            Some(groups).filter(|g| !g.is_empty()),
        )
        .set("KillMode", "mixed")
        .set("StandardInput", if terminal { "tty" } else { "null" })
        .set("StandardOutput", output(streams.stdout))
        .set("StandardError", output(streams.stderr))
        .set_some("TTYPath", terminal.then_some("/dev/console"))
        .set("SyslogIdentifier", name)
        // A line that begins with "<3>" is text of the app.
        .set("SyslogLevelPrefix", "no")
        .set(
            "LogExtraFields",
            format!("STAGE1_POD_UUID={} STAGE1_APP={name}", inputs.uuid),
        );
    directives
        .iter()
        .fold(unit, |unit, (key, value)| unit.set(key, value))
}

/// The units of the sockets of all apps.
fn after(sockets: &Sockets) -> Option<String> {
    let units: Vec<_> = sockets.keys().map(|app| socket_unit(app)).collect();
    Some(units.join(" ")).filter(|units| !units.is_empty())
}

/// The command of an event handler: with the app's root, environment, user and confinement.
fn handler(app: &PodApp, event: &str) -> Option<String> {
    let handler = app
        .app
        .event_handlers
        .iter()
        .find(|handler| handler.name == event)?;
    let words = escape::words(&handler.exec);
    Some(format!(":!/prepare-app --hook {} -- {words}", app.name()))
}

fn output(stream: Stream) -> &'static str {
    match stream {
        Stream::Null => "null",
        Stream::Log => "journal+console",
        Stream::Terminal => "tty",
    }
}
