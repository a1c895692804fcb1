//! Files of a cgroup's controllers.

use std::fs;
use std::path::PathBuf;

/// A file of a controller.
#[derive(Debug)]
pub(super) struct Knob {
    pub(super) path: PathBuf,
    pub(super) unified: bool,
}

impl Knob {
    pub(super) fn text(&self) -> Option<String> {
        let text = fs::read_to_string(&self.path).ok()?;
        Some(text.trim().to_owned())
    }

    /// `None` for "max" and v1's -1 as well.
    pub(super) fn number(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    /// A number of a device: the second word of its line, or in `io.max` the value of `key`.
    pub(super) fn of_device(&self, device: &str, key: &str) -> Option<u64> {
        let text = self.text()?;
        let mut words = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(device)).then_some(words)
        })?;
        if self.unified {
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        } else {
            words.next()?.parse().ok()
        }
    }
}

/// The file of a v1 limit of block devices.
pub(super) fn throttle(verb: &str, unit: &str) -> String {
    format!("blkio.throttle.{verb}_{unit}_device")
}
