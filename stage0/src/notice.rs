//! What stage0 tells the user besides its output: lines on standard error.

use std::fmt::Display;
use std::io::Write as _;

/// Says what was done or what is wrong without being a failure.
pub(crate) fn warn(text: impl Display) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "stage0: {text}");
}
