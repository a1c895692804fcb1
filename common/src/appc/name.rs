//! Names and identifiers, each a type that holds only valid text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::json;

/// Why a name or identifier was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not an [`AcName`].
    #[error("must be lower-case letters and digits, with single '-' between them")]
    AcName,
    /// Not an [`AcIdentifier`].
    #[error(
        "must be lower-case letters and digits, with single '-', '.', '_', '~' or '/' between them"
    )]
    AcIdentifier,
    /// Not an [`ImageId`].
    #[error("must be 'sha512-' and up to 128 lower-case hexadecimal digits")]
    ImageId,
    /// Not a [`Uuid`].
    #[error("must be a UUID such as 6733c088-a507-4694-aabf-00ab64dc3b94")]
    Uuid,
}

/// Defines a text type: its check, and the conversions that all of them share.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $normal:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $normal(text).map(Self).ok_or(NameError::$name)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                json::from_text(deserializer)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_type!(
    /// The name of an app, a volume or a port: lower-case letters and digits, with single `-`
    /// between them.
    AcName,
    ac_name
);

text_type!(
    /// The name of an image, a label, an annotation or an isolator: like a URL without a scheme.
    AcIdentifier,
    ac_identifier
);

text_type!(
    /// The digest that identifies an image: `sha512-` and hexadecimal digits. Stores may shorten
    /// it, as rkt's does.
    ImageId,
    image_id
);

text_type!(
    /// The UUID of a pod, in lower case with dashes.
    Uuid,
    uuid
);

impl Uuid {
    /// The 32 hexadecimal digits alone, as in a machine id.
    pub fn digits(&self) -> String {
        self.0.replace('-', "")
    }
}

fn ac_name(text: &str) -> Option<String> {
    words(text, &['-']).then(|| text.to_owned())
}

fn ac_identifier(text: &str) -> Option<String> {
    words(text, &['-', '.', '_', '~', '/']).then(|| text.to_owned())
}

/// Whether `text` is words of lower-case letters and digits with one separator between each two.
fn words(text: &str, separators: &[char]) -> bool {
    text.split(separators).all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

fn image_id(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha512-")?;
    let valid = (1..=128).contains(&digits.len())
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| text.to_owned())
}

fn uuid(text: &str) -> Option<String> {
    let valid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    valid.then(|| text.to_ascii_lowercase())
}
