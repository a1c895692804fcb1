//! What the app entrypoints have done in the pod.

fn main() -> std::process::ExitCode {
    entrypoints::main("manage", entrypoints::manage::run)
}
