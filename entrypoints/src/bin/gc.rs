//! The gc entrypoint.

fn main() -> std::process::ExitCode {
    entrypoints::main("gc", entrypoints::gc::run)
}
