//! Real pods through `build/stage0`, as a user types it: looked at from inside by the probe, and from outside.

mod arguments;
mod console;
mod dns;
mod environment;
mod exit;
mod filesystem;
mod hostile;
mod identity;
mod isolators;
mod missing;
mod volumes;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        arguments::cases(),
        console::cases(),
        dns::cases(),
        environment::cases(),
        exit::cases(),
        filesystem::cases(),
        hostile::cases(),
        identity::cases(),
        isolators::cases(),
        missing::cases(),
        volumes::cases(),
    ];
    tests::harness::main(
        Path::new(env!("CARGO_BIN_EXE_probe")),
        cases.into_iter().flatten().collect(),
    )
}
