//! The range of ids of a pod with a user namespace: its root is `shift` on the host, and it has no more than `count` ids.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The group `tty`, which owns terminals: a pod without it cannot mount its `/dev/pts`.
const TTY: u32 = 5;

/// A range of user and group ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// The host's id of the pod's root.
    pub shift: u32,
    /// How many ids the pod has.
    pub count: u32,
}

impl IdRange {
    /// The host's id for an id of the pod.
    ///
    /// # Errors
    /// When the pod has no such id.
    pub fn to_host(self, id: u32) -> Result<u32> {
        ensure!(
            id < self.count,
            "{id} is none of the {} ids of the pod's user namespace",
            self.count
        );
        Ok(self.shift + id)
    }

    /// The pod's id for an id of the host.
    ///
    /// # Errors
    /// When it is another's.
    pub fn to_pod(self, id: u32) -> Result<u32> {
        let own = id.checked_sub(self.shift).filter(|id| *id < self.count);
        own.with_context(|| format!("the host's id {id} is outside of the pod's range {self}"))
    }

    /// Whether there is an id in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.shift < other.shift + other.count && other.shift < self.shift + self.count
    }

    /// One line of `/proc/PID/uid_map` (user_namespaces(7)).
    pub fn map(self) -> String {
        format!("0 {} {}", self.shift, self.count)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shift, self.count)
    }
}

impl FromStr for IdRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(':').and_then(|(shift, count)| {
            let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
            Some((number(shift)?, number(count)?))
        });
        let (shift, count) = numbers.context("must be SHIFT:COUNT, two numbers of user ids")?;
        if shift == 0 {
            bail!("must not begin with the host's root, 0");
        }
        if count <= TTY {
            bail!("a pod needs {} ids at least", TTY + 1);
        }
        // The last number is no id: it means "unchanged" to chown(2).
        if shift.checked_add(count).is_none() {
            bail!("ends after {}, the last id", u32::MAX - 1);
        }
        Ok(Self { shift, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        for text in ["65536:65536", "1:6", "4294967289:6", "100000:1000"] {
            assert_eq!(text.parse::<IdRange>().unwrap().to_string(), text);
        }
        const FORM: &str = "must be SHIFT:COUNT, two numbers of user ids";
        const FEW: &str = "a pod needs 6 ids at least";
        const LAST: &str = "ends after 4294967294, the last id";
        for (text, expected) in [
            ("", FORM),
            ("5", FORM),
            ("a:b", FORM),
            ("-1:9", FORM),
            ("+1:9", FORM),
            ("1:2:3", FORM),
            ("4294967296:6", FORM),
            ("0:65536", "must not begin with the host's root, 0"),
            ("65536:0", FEW),
            ("65536:5", FEW),
            ("4294967290:6", LAST),
            ("4294967295:65536", LAST),
        ] {
            let error = text.parse::<IdRange>().unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
        }
    }

    #[test]
    fn ids() {
        let range: IdRange = "1000:10".parse().unwrap();
        assert_eq!(range.to_host(9).unwrap(), 1009);
        assert_eq!(range.to_pod(1009).unwrap(), 9);
        assert_eq!(
            range.to_host(10).unwrap_err().to_string(),
            "10 is none of the 10 ids of the pod's user namespace"
        );
        for id in [0, 999, 1010] {
            assert_eq!(
                range.to_pod(id).unwrap_err().to_string(),
                format!("the host's id {id} is outside of the pod's range 1000:10")
            );
        }
    }

    #[test]
    fn overlaps() {
        let range = |shift, count| IdRange { shift, count };
        let middle = range(100, 10);
        for other in [
            middle,
            range(91, 10),
            range(109, 10),
            range(102, 6),
            range(50, 100),
        ] {
            assert!(middle.overlaps(other) && other.overlaps(middle), "{other}");
        }
        for other in [range(90, 10), range(110, 10), range(4294967289, 6)] {
            assert!(
                !middle.overlaps(other) && !other.overlaps(middle),
                "{other}"
            );
        }
    }
}
