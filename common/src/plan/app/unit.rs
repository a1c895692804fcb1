//! The unit of an app.

use std::time::Duration;

use super::readiness;
use super::sockets;
use super::streams::Streams;
use crate::listen::Sockets;
use crate::load::PodApp;
use crate::plan::{Directive, Inputs, POD_UNIT, Resources};
use crate::policy::{ExitPolicy, Restart, StopSignal};
use crate::stream::{Mode, Modes};
use crate::time_span;
use crate::unit::{Unit, app_unit, escape, health_timer};

/// The unit of an app. What it leaves to `prepare-app`, and why, stands in that program.
pub(super) fn unit(
    inputs: &Inputs<'_>,
    app: &PodApp,
    streams: &Streams,
    directives: &[Directive],
    sockets: &Sockets,
    resources: &Resources,
) -> Unit {
    let name = app.name();
    let unit = dependencies(Unit::new(app_unit(name)), inputs, app, streams, sockets);
    let unit = who(unit.section("Service"), app);
    let unit = standard_streams(unit, inputs, name, &streams.modes);
    let unit = commands(with(unit, &readiness::directives(app)), app);
    let unit = stop(unit, app, sockets.contains_key(name), resources);
    with(unit, directives)
}

/// What it needs and what needs it, section `[Unit]`.
fn dependencies(
    unit: Unit,
    inputs: &Inputs<'_>,
    app: &PodApp,
    streams: &Streams,
    sockets: &Sockets,
) -> Unit {
    let name = app.name();
    let immutable = !inputs.options.mutable;
    let keeps_pod = immutable.then_some(POD_UNIT);
    let [on_success, on_failure] = actions(inputs, app);
    let restarts = app.policy.restart != Restart::No;
    let unit = unit
        .section("Unit")
        .set(
            "Description",
            escape::text(&format!("App {name} of image {}", app.image.name)),
        )
        .set("DefaultDependencies", "no")
        .set_some("Requires", keeps_pod)
        .set_some("After", keeps_pod)
        // Wanted and not required: when one cannot be opened, the app's own program says why, and the app has failed.
        .set_some("Wants", wants(name, sockets))
        .set_some(
            "Wants",
            app.policy.health.as_ref().map(|_| health_timer(name)),
        )
        // All of them: an app finds the others listening already.
        .set_some("After", after(sockets));
    with(unit, &streams.dependencies())
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target supervisor-ready.service")
        .set_some("SuccessAction", on_success)
        .set_some("FailureAction", on_failure)
        // How often is what the waits between restarts see to.
        .set_some("StartLimitIntervalSec", restarts.then_some("0"))
}

/// Who it runs as.
fn who(unit: Unit, app: &PodApp) -> Unit {
    let groups: Vec<_> = app.identity.groups.iter().map(u32::to_string).collect();
    unit.set("User", app.identity.uid.to_string())
        .set("Group", app.identity.gid.to_string())
        .set_some(
            "SupplementaryGroups",
            Some(groups.join(" ")).filter(|groups| !groups.is_empty()),
        )
}

/// Where its streams lead.
fn standard_streams(unit: Unit, inputs: &Inputs<'_>, app: &str, modes: &Modes) -> Unit {
    let terminal = modes.stdin == Mode::Interactive;
    unit.set("StandardInput", if terminal { "tty" } else { "null" })
        .set("StandardOutput", output(modes.stdout))
        .set("StandardError", output(modes.stderr))
        .set_some("TTYPath", terminal.then_some("/dev/console"))
        .set("SyslogIdentifier", app)
        // A line that begins with "<3>" is text of the app.
        .set("SyslogLevelPrefix", "no")
        .set("LogExtraFields", log_fields(inputs, app))
}

pub(super) fn with(unit: Unit, directives: &[Directive]) -> Unit {
    directives
        .iter()
        .fold(unit, |unit, (key, value)| unit.set(key, value.as_str()))
}

/// What is run when.
fn commands(unit: Unit, app: &PodApp) -> Unit {
    let name = app.name();
    let restart = restart(app);
    let (pre_start, post_stop) = (handler(app, "pre-start"), handler(app, "post-stop"));
    unit.set_some("Restart", restart)
        .set_some("RestartSec", restart.and(Some("0")))
        .set_some(
            "ExecStartPre",
            restart.map(|_| format!("+/reaper --back-off {name}")),
        )
        .set_some("ExecStartPre", pre_start)
        .set(
            "ExecStart",
            format!(":!/prepare-app {name} -- {}", escape::words(&app.app.exec)),
        )
        .set_some(
            "ExecStartPost",
            app.notifies.then(|| format!("+/reaper --ready {name}")),
        )
        // "-": how the app ended is what counts, and the last call of the reaper comes in any case. The first one is there
        // for the time of the end.
        .set_some(
            "ExecStopPost",
            post_stop
                .as_ref()
                .map(|_| format!("-+/reaper --note {name}")),
        )
        .set_some(
            "ExecStopPost",
            post_stop.map(|command| format!("-{command}")),
        )
        .set("ExecStopPost", reaper(app))
}

/// The shortest time that a unit is given for a stop: systemd's limit holds for each `ExecStopPost=`, too, and so long the
/// reaper has to begin with the note of the end and ask for more. Of a processor it has no more than the app.
fn shortest_stop(resources: &Resources) -> Duration {
    const WITH_A_TENTH_OF_A_PROCESSOR: Duration = Duration::from_secs(10);
    let milli = resources.cpu_limit.map_or(100, |milli| milli.clamp(1, 100));
    WITH_A_TENTH_OF_A_PROCESSOR * 100 / u32::try_from(milli).unwrap_or(100)
}

/// How the app is asked to end, and killed when its time is over: by the reaper if that is less than what the unit needs.
fn stop(unit: Unit, app: &PodApp, has_sockets: bool, resources: &Resources) -> Unit {
    let signal = &app.policy.stop_signal;
    let name = app.name();
    let (own, shortest) = (app.policy.stop_timeout, shortest_stop(resources));
    let (limit, reaper) = if own < shortest {
        let time = time_span::format(own);
        let command = format!("-+/reaper --end-within={time} {name}");
        (own + shortest, Some(command))
    } else {
        (own, None)
    };
    // Before the signal: the app may close its copies of them at once, and nobody else's keep them open then.
    unit.set_some(
        "ExecStop",
        has_sockets.then(|| format!("-+/reaper --close-sockets {name}")),
    )
    .set_some("ExecStop", reaper)
    .set("KillMode", "mixed")
    .set_some(
        "KillSignal",
        (*signal != StopSignal::default()).then(|| signal.name()),
    )
    .set_some(
        "SuccessExitStatus",
        (!signal.is_clean_to_systemd()).then(|| signal.name()),
    )
    .set("TimeoutStopSec", time_span::format(limit))
}

/// The fields of each entry of the journal that is of an app.
pub(super) fn log_fields(inputs: &Inputs<'_>, app: &str) -> String {
    format!("STAGE1_POD_UUID={} STAGE1_APP={app}", inputs.uuid)
}

/// The units of the app's sockets.
fn wants(app: &str, sockets: &Sockets) -> Option<String> {
    Some(sockets::names(app, sockets.get(app)?).join(" "))
}

/// The units of the sockets of all apps.
fn after(sockets: &Sockets) -> Option<String> {
    let of_app = |(app, own): (&String, &Vec<_>)| sockets::names(app, own);
    let units: Vec<_> = sockets.iter().flat_map(of_app).collect();
    Some(units.join(" ")).filter(|units| !units.is_empty())
}

/// What systemd does when the app has ended well, and when it has failed. An end after which it is started again is none
/// for the pod, but systemd 252 acts on such a failure, too.
fn actions(inputs: &Inputs<'_>, app: &PodApp) -> [Option<&'static str>; 2] {
    if inputs.options.mutable {
        return [None, None];
    }
    let (policy, restart) = (
        inputs.pod.exit_policy.unwrap_or_default(),
        app.policy.restart,
    );
    let ends_well = policy == ExitPolicy::OnAny && restart != Restart::Always;
    let fails = policy != ExitPolicy::UntilAll && restart == Restart::No;
    [ends_well, fails].map(|ends| ends.then_some("exit"))
}

fn restart(app: &PodApp) -> Option<&'static str> {
    match app.policy.restart {
        Restart::No => None,
        Restart::OnFailure => Some("on-failure"),
        Restart::Always => Some("always"),
    }
}

/// What notes the end of an app.
fn reaper(app: &PodApp) -> String {
    let name = app.name();
    match restart(app) {
        None => format!("+/reaper {name}"),
        Some(restart) => {
            let delay = app.policy.restart_delay.as_millis();
            format!("+/reaper --restart={restart} --delay={delay}ms {name}")
        }
    }
}

/// The command of an event handler: with the app's root, environment, user and confinement.
pub(super) fn handler(app: &PodApp, event: &str) -> Option<String> {
    let handler = app
        .app
        .event_handlers
        .iter()
        .find(|handler| handler.name == event)?;
    let words = escape::words(&handler.exec);
    Some(format!(":!/prepare-app --hook {} -- {words}", app.name()))
}

/// Where prepare-app finds a stream leading; one that `iottymux` serves it replaces.
fn output(mode: Mode) -> &'static str {
    match mode {
        Mode::Null => "null",
        Mode::Log | Mode::Stream | Mode::Tty => "journal+console",
        Mode::Interactive => "tty",
    }
}
