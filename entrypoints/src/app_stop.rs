//! Stops an app of a running pod, and waits until it is over and its status is written. An app that does not run is
//! stopped already.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use common::flags::{self, Flag, switch};

use crate::crossing::{APP, Crossing, DEBUG};
use crate::print_help;

const FLAGS: [Flag; 3] = [APP, DEBUG, switch("force", "kill the app's processes")];
const USAGE: &str = "app-stop [OPTIONS] --app=APP";
const ABOUT: &str = "Stops an app of the running pod in the working directory.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let words: &[&str] = if flags.is_set("force") {
        &["stop", "--force"]
    } else {
        &["stop"]
    };
    Crossing::new(&flags)?.manage(words)?;
    Ok(ExitCode::SUCCESS)
}
