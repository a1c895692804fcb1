//! The app/rm entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("app-rm", entrypoints::app_rm::run)
}
