//! The stage0 command.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage0::cmd::main(std::env::args_os().collect())
}
