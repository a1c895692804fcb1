//! The program that looks whether an app is well.

fn main() -> std::process::ExitCode {
    entrypoints::main("health", entrypoints::health::run)
}
