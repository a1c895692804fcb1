//! The reaper entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("reaper", entrypoints::reaper::run)
}
