//! Versions of the CNI protocol.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// A version of the protocol that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(u16, u16, u16);

impl Version {
    /// The version of configurations that name none, as the protocol has it.
    pub const FIRST: Self = Version(0, 1, 0);
    /// With interfaces in the results, and results given on to the next plugin.
    pub const INTERFACES: Self = Version(0, 3, 0);
    /// With CHECK, and results given to DEL.
    pub const CHECK: Self = Version(0, 4, 0);
    /// The present one.
    pub const ONE: Self = Version(1, 0, 0);
    /// With GC.
    pub const GC: Self = Version(1, 1, 0);

    const KNOWN: [Self; 7] = [
        Self::FIRST,
        Version(0, 2, 0),
        Self::INTERFACES,
        Version(0, 3, 1),
        Self::CHECK,
        Self::ONE,
        Self::GC,
    ];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = text.split('.').map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok);
        let parsed = (|| Some(Version(next()?, next()?, next()?)))();
        let version = parsed
            .filter(|_| text.split('.').count() == 3)
            .with_context(|| format!("{text:?} is not a version"))?;
        ensure!(
            Self::KNOWN.contains(&version),
            "version {text} of the protocol is not known (0.1.0 to {} are)",
            Self::GC
        );
        Ok(version)
    }
}

impl TryFrom<String> for Version {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for text in ["0.1.0", "0.2.0", "0.3.1", "1.0.0", "1.1.0"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        assert!(Version::FIRST < Version::CHECK && Version::CHECK < Version::ONE);
        for (text, error) in [
            ("", "\"\" is not a version"),
            ("1.0", "\"1.0\" is not a version"),
            ("1.0.0.0", "\"1.0.0.0\" is not a version"),
            (
                "2.0.0",
                "version 2.0.0 of the protocol is not known (0.1.0 to 1.1.0 are)",
            ),
        ] {
            assert_eq!(text.parse::<Version>().unwrap_err().to_string(), error);
        }
    }
}
