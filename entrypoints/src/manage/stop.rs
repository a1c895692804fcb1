//! Stops an app.

use anyhow::{Result, ensure};
use common::unit::app_unit;

use crate::manager::{Manager, Whom};

/// Stops an app and waits until that is over, its commands after the end and its status included.
pub(super) fn stop(app: &str, force: bool) -> Result<()> {
    stop_unit(&mut Manager::connect()?, &app_unit(app), force)
}

/// Stops a unit; one that does not run is stopped.
pub(super) fn stop_unit(manager: &mut Manager, unit: &str, force: bool) -> Result<()> {
    if !manager.is_alive(unit)? {
        return Ok(());
    }
    if force {
        // Before the request, at which the app would end in its own way. Commands after the end are let run: they free
        // what the app holds, and write its status.
        let starting = manager
            .text(unit, "Unit", "SubState")?
            .starts_with("start-");
        manager.kill(unit, if starting { Whom::Control } else { Whom::Main })?;
    }
    let Some(stop) = manager.ask_to_stop(unit)? else {
        return Ok(());
    };
    let result = manager.wait(&stop)?;
    ensure!(
        result == "done",
        "{unit}: the stop was {result}: another command starts it"
    );
    Ok(())
}
