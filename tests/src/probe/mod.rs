//! The probe: a static program that is an image's only file, runs as an app, and reports what it sees from inside.
//! The harness judges; the probe never fails a test by itself.
//!
//! `probe` alone prints its report ([`Seen`]) as one line of JSON. `probe STEP ARGS…` does one thing, and
//! `probe do STEP ARGS… + STEP ARGS… + …` several in order. [`Step`] lists them.

mod call;
mod gather;
mod notify;
mod press;
mod seen;
mod socket;
mod step;

use std::io::Write;

pub use press::Press;
pub use seen::{Capabilities, Node, Outcome, Seen, Terminal};
pub use socket::Talk;
pub use step::Step;

/// Exit status of a probe whose step could not be done.
pub const FAILED: i32 = 99;

/// Runs the steps of the command line and returns the exit status.
pub fn main() -> i32 {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let status = match run(&words) {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "probe: {error:#}");
            FAILED
        }
    };
    // Nobody flushes for a program with a C main.
    let _ = std::io::stdout().flush();
    status
}

fn run(words: &[String]) -> anyhow::Result<i32> {
    let steps = step::parse(words)?;
    if steps.contains(&Step::UntilTerm) {
        // Before the first step, so that a signal that comes early waits.
        step::hold_termination()?;
    }
    for step in &steps {
        if let Some(status) = step.run()? {
            return Ok(status);
        }
    }
    Ok(0)
}
