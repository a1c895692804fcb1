//! The prepare-app entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("prepare-app", entrypoints::prepare_app::run)
}
