//! Reading and writing manifests as JSON, with errors that name the field.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ManifestError;

/// Longest value that an error repeats.
const SHOWN_VALUE: usize = 80;

/// What a port, or a number of ports, must be.
pub(super) const PORT_RULE: &str = "must be a whole number from 1 to 65535";

/// Reads a manifest; the caller validates it.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ManifestError> {
    if let Ok(manifest) = serde_json::from_slice(bytes) {
        return Ok(manifest);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(ManifestError::Syntax)?;
    // Of a field that is there twice the last value counts, as `Value` has it.
    of_value(&value)
}

/// What a value stands for.
pub(crate) fn of_value<T: DeserializeOwned>(value: &Value) -> Result<T, ManifestError> {
    serde_json::from_slice(value.to_string().as_bytes()).map_err(|error| {
        // The text has one line.
        let (path, part) = stopped_at(value, error.column());
        field_error(&path, part, &message(&error))
    })
}

/// Where serde stopped when it had read so many bytes of the text of a value: the path, which is empty for `root`, and the
/// value there. It reads no further than a value that it refuses, and all of an object that lacks a field. A crate that
/// keeps the path while it reads took half as long again for a pod of a hundred apps, and 67 kB more of init.
fn stopped_at(root: &Value, mut read: usize) -> (String, &Value) {
    let (mut path, mut value) = (String::new(), root);
    while let Some((step, part, before)) = part_at(value, read) {
        path.push_str(&step);
        value = part;
        read -= before;
    }
    let path = path.strip_prefix('.').unwrap_or(&path);
    (path.to_owned(), value)
}

/// The element of a list, or the field of an object, in whose text it is that `read` bytes of all have been read: the step
/// of the path to it, the value, and the bytes before it.
fn part_at(value: &Value, read: usize) -> Option<(String, &Value, usize)> {
    let length = |value: &Value| value.to_string().len();
    if read == 0 || read >= length(value) {
        return None;
    }
    let parts: Vec<(String, usize, &Value)> = match value {
        Value::Array(list) => (list.iter().enumerate())
            .map(|(index, part)| (format!("[{index}]"), 0, part))
            .collect(),
        Value::Object(fields) => (fields.iter())
            .map(|(key, part)| {
                let colon = length(&Value::from(key.as_str())) + 1;
                (format!(".{key}"), colon, part)
            })
            .collect(),
        _ => return None,
    };
    // After the bracket.
    let mut at = 1;
    for (step, key, part) in parts {
        let begin = at + key;
        let end = begin + length(part);
        if (begin..=end).contains(&read) {
            return Some((step, part, begin));
        }
        // And the comma.
        at = end + 1;
    }
    None
}

/// What serde says, less the place in the text: people know their manifests by fields.
fn message(error: &serde_json::Error) -> String {
    if error.is_syntax() {
        // Of JSON that is right: in the place of one of several words there is no word.
        return "no word, expected a string".to_owned();
    }
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message,
    }
}

/// Writes a manifest for people to read.
pub(super) fn to_json<T: Serialize>(manifest: &T) -> Vec<u8> {
    // Cannot fail: all keys are strings, and writing to memory has no errors.
    let mut json = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Reads a string as what it stands for. Unlike `try_from`, which speaks after serde has gone on, this fails at the string.
pub(super) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// For `deserialize_with`: `null` is the default value.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// For `skip_serializing_if`.
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// A value as an error shows it: JSON, cut when it is long.
pub(super) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > SHOWN_VALUE {
        text = text.chars().take(SHOWN_VALUE).collect();
        text.push('…');
    }
    text
}

/// Turns serde's message about the value at `path` into field, value and rule.
fn field_error(path: &str, value: &Value, message: &str) -> ManifestError {
    if let Some(missing) = message.strip_prefix("missing field `") {
        let missing = missing.trim_end_matches('`');
        let field = match path {
            "" => missing.to_owned(),
            _ => format!("{path}.{missing}"),
        };
        let rule = "must be given".to_owned();
        return ManifestError::Field {
            field,
            value: None,
            rule,
        };
    }
    let rule = match message.split_once(", expected ") {
        Some((_, expected)) => rule(expected),
        None if message.starts_with("invalid IP address") => "must be an IP address".to_owned(),
        None => message.to_owned(),
    };
    let field = match path {
        "" => "manifest".to_owned(),
        _ => path.to_owned(),
    };
    let value = Some(shown(value));
    ManifestError::Field { field, value, rule }
}

/// What serde expected, in words that do not speak of Rust.
fn rule(expected: &str) -> String {
    let expected = match expected {
        // Ports are the only numbers of this size.
        "u16" => return PORT_RULE.to_owned(),
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    };
    format!("must be {expected}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn of_a_field_given_twice_the_last_value_counts() {
        #[derive(Deserialize)]
        struct Manifest {
            name: String,
            #[serde(flatten)]
            others: BTreeMap<String, u32>,
        }
        let text = br#"{"name": "a", "x": 1, "name": "b", "x": 2}"#;
        let manifest: Manifest = parse(text).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.others["x"]), ("b", 2));
        assert!(matches!(
            parse::<Manifest>(br#"{"name": "a"}}"#),
            Err(ManifestError::Syntax(_))
        ));
    }
}
