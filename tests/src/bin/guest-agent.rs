//! The program that runs the steps of a VM test inside its guest; see [`tests::vm::agent`].

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (payload, port) = (Path::new("/payload"), Path::new("/dev/ttyS1"));
    match tests::vm::agent::run(payload, port, std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "guest-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
