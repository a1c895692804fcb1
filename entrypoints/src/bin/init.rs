//! The init entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("init", entrypoints::init::run)
}
