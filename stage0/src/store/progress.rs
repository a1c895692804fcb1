//! Showing how far long work is, on a terminal.

use std::io::{IsTerminal, Read, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work on less than this is over before anybody has read what it is.
const WORTH_SHOWING: u64 = 8 << 20;

/// A bar on standard error while it lives; nothing where that is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Starts work on so many bytes.
    pub(super) fn bytes(deed: &'static str, size: u64) -> Self {
        if size < WORTH_SHOWING || !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(deed);
        Self(bar)
    }

    /// Counts what is read.
    pub(super) fn wrap<R: Read>(&self, reader: R) -> impl Read + use<R> {
        self.0.wrap_read(reader)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
