//! Starts an app of a running pod. It succeeds when the app's program was executed, or runs already; for an app that says
//! when it is ready, when it is.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use common::flags::{self, Flag};

use crate::crossing::{APP, Crossing, DEBUG};
use crate::print_help;

const FLAGS: [Flag; 2] = [APP, DEBUG];
const USAGE: &str = "app-start --app=APP";
const ABOUT: &str = "Starts an app of the running pod in the working directory.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    Crossing::new(&flags)?.manage(&["start"])?;
    Ok(ExitCode::SUCCESS)
}
