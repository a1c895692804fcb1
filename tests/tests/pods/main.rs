//! Real pods through `build/stage0`, as a user types it: looked at from inside by the probe, and from outside.

mod arguments;
mod commands;
mod console;
mod death;
mod dns;
mod environment;
mod exit;
mod filesystem;
mod hostile;
mod identity;
mod images;
mod isolators;
mod missing;
mod refusals;
mod volumes;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        arguments::cases(),
        commands::cases(),
        console::cases(),
        death::cases(),
        dns::cases(),
        environment::cases(),
        exit::cases(),
        filesystem::cases(),
        hostile::cases(),
        identity::cases(),
        images::cases(),
        isolators::cases(),
        missing::cases(),
        refusals::cases(),
        volumes::cases(),
    ];
    tests::harness::main(
        Path::new(env!("CARGO_BIN_EXE_probe")),
        &["stage0", "stage1.aci"],
        cases.into_iter().flatten().collect(),
    )
}
