//! The shim of `image-build`.

fn main() -> std::process::ExitCode {
    image_build::main()
}
