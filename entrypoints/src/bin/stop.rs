//! The stop entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("stop", entrypoints::stop::run)
}
