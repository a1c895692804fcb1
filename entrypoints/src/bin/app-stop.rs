//! The app/stop entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("app-stop", entrypoints::app_stop::run)
}
