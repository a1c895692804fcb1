//! The enter entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("enter", entrypoints::enter::run)
}
