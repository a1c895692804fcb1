//! The first program in the pod.

fn main() -> std::process::ExitCode {
    entrypoints::main("pid1", entrypoints::pid1::run)
}
