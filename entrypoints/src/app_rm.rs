//! Makes a running pod forget an app: nothing of it stays in the pod, and nothing of the pod uses its root any more. The
//! root itself is stage0's.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::apply::remove_unfinished_volumes;
use common::flags::{self, Flag, switch};
use common::pod::names_in;

use crate::crossing::{APP, Crossing, DEBUG};
use crate::inside::turn_to_change;
use crate::{network, print_help};

const FLAGS: [Flag; 3] = [APP, DEBUG, switch("force", "stop the app when it runs")];
const USAGE: &str = "app-rm [OPTIONS] --app=APP";
const ABOUT: &str =
    "Makes the running pod in the working directory forget an app that does not run.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    forget(&Crossing::new(&flags)?, flags.is_set("force"))?;
    Ok(ExitCode::SUCCESS)
}

/// Has the pod forget the app, and removes the volumes that were its own. Done again, it does what is left to do.
pub(crate) fn forget(crossing: &Crossing, force: bool) -> Result<()> {
    let words: &[&str] = if force {
        &["forget", "--force"]
    } else {
        &["forget"]
    };
    crossing.manage(words)?;
    let _turn = turn_to_change(&crossing.dir.stage_root())?;
    network::unforward(&crossing.dir, crossing.app.as_str())?;
    remove_unfinished_volumes(&crossing.dir.shared_volumes())?;
    // Names have no dot: what is before the first is the app.
    let own = format!("{}.", crossing.app);
    let volumes = names_in(&crossing.dir.shared_volumes())?;
    for key in volumes.iter().filter(|key| key.starts_with(&own)) {
        let path = crossing.dir.shared_volume(key);
        fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
