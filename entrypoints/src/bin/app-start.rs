//! The app/start entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("app-start", entrypoints::app_start::run)
}
