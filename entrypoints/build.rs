//! How the programs are linked: small, for each of them is linked statically and is a file of its own in the image.

fn main() {
    let dir = env!("CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    // Relative relocations in their packed form, DT_RELR, which glibc reads since 2.36: some 90 kB less in each.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Nothing is unwound (panic = "abort"), so nobody reads the tables for it, backtraces apart, which
    // `main` switches off: without the tables their maker aborts. Another 200 kB.
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{dir}/link.ld");
}
