//! image-build.

fn main() {}
