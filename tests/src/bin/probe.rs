//! The program that runs as an app inside pods; see [`tests::probe`].
//!
//! It has a C `main`: Rust's own start-up ignores SIGPIPE and opens /dev/null on closed standard streams, which would
//! hide from the report what the app was really given.
#![no_main]
#![allow(
    unsafe_code,
    reason = "exporting a symbol named main is unsafe to write, and all that is"
)]

use std::ffi::{c_char, c_int};

/// What the C library calls. The arguments are read through [`std::env::args_os`], which glibc's start-up feeds.
// SAFETY: no other symbol of this name exists in the program, because of `no_main`.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    tests::probe::main()
}
