//! Starts an app, and finds out whether its program was executed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::pod::StageRoot;
use common::status::{AppStatus, State};
use common::unit::app_unit;

use crate::gc::absent;
use crate::manager::Manager;
use crate::start_report::{self, Listener, Told};

/// How often systemd is asked whether an app that tells nothing is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn start(root: &StageRoot, app: &str) -> Result<()> {
    let unit = app_unit(app);
    // Two who start the app at once: the second finds it running.
    let _turn = start_report::lock(app)?;
    ensure!(
        root.spec(app).exists(),
        "the pod has no app {app}: it must be added first"
    );
    let mut manager = Manager::connect()?;
    manager.load(&unit)?;
    let state = manager.text(&unit, "Unit", "ActiveState")?;
    if state == "active" {
        return Ok(());
    }
    if ["inactive", "failed"].contains(&state.as_str()) {
        note_start(root, app)?;
    }
    // It tells of the end of the run before.
    let status = root.status(app);
    absent(fs::remove_file(&status)).with_context(|| format!("remove {}", status.display()))?;
    let mut listener = Listener::new(app)?;
    let result = manager.start(&unit)?;
    let told = if result == "done" {
        while !listener.wait(LOOK_AGAIN)? && manager.is_alive(&unit)? {}
        listener.told()?
    } else {
        listener.told()?
    };
    let why = match told {
        Told::Executed if result == "done" => return Ok(()),
        Told::Failed(why) => why,
        Told::Executed => format!(
            "it was executed and not ready ({})",
            reason(&mut manager, &unit)?
        ),
        Told::Nothing if !manager.had_main(&unit)? => {
            format!(
                "what comes before its program failed ({})",
                reason(&mut manager, &unit)?
            )
        }
        Told::Nothing => format!(
            "its program was not executed ({})",
            reason(&mut manager, &unit)?
        ),
    };
    // It must not be started again by itself; and its status is written when this is over.
    if let Some(stop) = manager.ask_to_stop(&unit)? {
        manager.wait(&stop)?;
    }
    if result == "canceled" {
        bail!("app {app}: the start was ended by another command");
    }
    bail!("app {app}: {why}")
}

/// Forgets the end of the run before: should the app's handler `pre-start` fail, that is another end.
fn note_start(root: &StageRoot, app: &str) -> Result<()> {
    AppStatus::update(&root.status_json(app), |status| {
        status.state = State::Created;
        status.restart_at = None;
        Ok(())
    })?;
    Ok(())
}

/// What systemd says of the unit's end (systemd.exec(5), `$SERVICE_RESULT`).
fn reason(manager: &mut Manager, unit: &str) -> Result<String> {
    manager.text(unit, "Service", "Result")
}
