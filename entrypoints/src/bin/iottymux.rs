//! The iottymux program.

fn main() -> std::process::ExitCode {
    entrypoints::main("iottymux", entrypoints::iottymux::run)
}
