//! See [`entrypoints::shutdown`].

fn main() -> std::process::ExitCode {
    entrypoints::main("shutdown", entrypoints::shutdown::run)
}
