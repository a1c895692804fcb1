//! The units that look whether an app is well: a timer, and the service that it starts, which is one look.
//!
//! systemd does what it can: it waits from the end of a look to the next one, kills all processes of a look when that is
//! over, and ends both with the app. The program `health` runs the command and counts.

use super::unit::{log_fields, with};
use crate::load::PodApp;
use crate::plan::{Directive, Inputs};
use crate::policy::{Action, Health};
use crate::time_span;
use crate::unit::{Unit, app_unit, escape, health_timer, health_unit};

pub(super) fn units(
    inputs: &Inputs<'_>,
    app: &PodApp,
    health: &Health,
    directives: &[Directive],
) -> [Unit; 2] {
    let name = app.name();
    [
        timer(name, health),
        service(inputs, app, health, directives),
    ]
}

/// The app's unit wants it, so it starts again with each start of the app; it does not start the app.
fn timer(name: &str, health: &Health) -> Unit {
    let interval = time_span::format(health.interval);
    Unit::new(health_timer(name))
        .section("Unit")
        .set(
            "Description",
            format!("Health of app {name}, time and again"),
        )
        .set("DefaultDependencies", "no")
        .set("BindsTo", app_unit(name))
        .set("After", app_unit(name))
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target")
        .section("Timer")
        .set("OnActiveSec", &interval)
        .set("OnUnitInactiveSec", &interval)
        // A minute, else.
        .set("AccuracySec", "1ms")
}

fn service(inputs: &Inputs<'_>, app: &PodApp, health: &Health, directives: &[Directive]) -> Unit {
    let name = app.name();
    let mut words = vec![
        format!("--timeout={}", time_span::format(health.timeout)),
        format!("--retries={}", health.retries),
    ];
    let stop = time_span::format(app.policy.stop_timeout);
    words.extend((health.action == Action::Restart).then(|| format!("--end-within={stop}")));
    words.extend([name.to_owned(), "--".to_owned()]);
    words.extend(health.exec.iter().cloned());
    let unit = Unit::new(health_unit(name))
        .section("Unit")
        .set("Description", format!("Health of app {name}"))
        .set("DefaultDependencies", "no")
        // An app that is not there is not started for this (BindsTo= would), and takes this with it when it ends.
        .set("Requisite", app_unit(name))
        .set("After", app_unit(name))
        .set("StopPropagatedFrom", app_unit(name))
        .set("Conflicts", "stopped.target")
        .set("Before", "stopped.target")
        // How often is what the interval says.
        .set("StartLimitIntervalSec", "0")
        .section("Service")
        .set("Type", "oneshot")
        .set("ExecStart", format!(":/health {}", escape::words(&words)))
        // What is left of a look has had its time.
        .set("KillSignal", "SIGKILL")
        .set("SuccessExitStatus", "SIGKILL")
        .set("StandardInput", "null")
        .set("StandardOutput", "journal")
        .set("StandardError", "journal")
        .set("SyslogIdentifier", format!("health-{name}"))
        .set("SyslogLevelPrefix", "no")
        .set("LogExtraFields", log_fields(inputs, name));
    with(unit, directives)
}
