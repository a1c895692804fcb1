//! Tests of the whole: a probe that runs inside pods, images to put it in, a fixture that runs our stage0 and leaves
//! nothing behind, and a second stage0 written from the contract alone.

pub mod driver;
pub mod fixture;
pub mod harness;
pub mod image;
pub mod leftovers;
pub mod probe;
pub mod process;
pub mod vm;
pub mod wait;
