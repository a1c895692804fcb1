//! The attach entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("attach", entrypoints::attach::run)
}
