//! The app/add entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("app-add", entrypoints::app_add::run)
}
