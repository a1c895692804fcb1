//! Tests of the whole, in tiers by what they need:
//!
//! | tier | needs | looks at |
//! |---|---|---|
//! | `cargo test -p tests --lib` | nothing | the tools below |
//! | `cargo test -p tests --test pods` | root, `scripts/build` | real pods through `build/stage0`, as a user types it |
//! | `cargo test -p tests --test driver` | root, `scripts/build` | the stage1, driven by a second stage0 of the contract alone |
//! | `cargo test -p tests --test vm` | QEMU | other hosts: without systemd, with it, other cgroup hierarchies |
//!
//! Without root the two in the middle are counted as ignored, with the reason; `STAGE1_REQUIRE_ROOT=1` makes that a
//! failure, and `STAGE1_BUILD_DIR` names another place for what was built. `STAGE1_TESTS` names a file whose lines are
//! the tests to run; that, and `STAGE1_PROBE`, is how a guest of the last tier is told what to do.
//!
//! A test runs a pod of the [`probe`], which reports what it sees from inside, and judges the report. Its
//! [`fixture`] removes the pods with stage0's own commands, and what is left on the host then is a failure too.
//! Nothing sleeps: see [`wait`].

pub mod driver;
pub mod fixture;
pub mod footprint;
pub mod harness;
pub mod image;
pub mod leftovers;
pub mod probe;
pub mod process;
pub mod units;
pub mod vm;
pub mod wait;
