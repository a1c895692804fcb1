//! Reading and writing manifests as JSON, with errors that name the field.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, Value};
use serde_path_to_error::{Path, Segment, Track};

use super::error::ManifestError;

/// Longest value that an error repeats.
const SHOWN_VALUE: usize = 80;

/// What a port, or a number of ports, must be.
pub(super) const PORT_RULE: &str = "must be a whole number from 1 to 65535";

/// Reads a manifest; the caller validates it.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ManifestError> {
    if let Ok(manifest) = read(bytes) {
        return Ok(manifest);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(ManifestError::Syntax)?;
    // Of a field that is there twice the last value counts, as `Value` has it.
    read(value.to_string().as_bytes())
        .map_err(|error| field_error(&value, error.path(), &message(error.inner())))
}

/// Reads all of a text.
fn read<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    let mut json = Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let read = T::deserialize(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    ));
    read.and_then(|manifest| json.end().map(|()| manifest))
        .map_err(|error| serde_path_to_error::Error::new(track.path(), error))
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
fn field_error(root: &Value, path: &Path, message: &str) -> ManifestError {
    let mut field = path.to_string();
    if let Some(missing) = message.strip_prefix("missing field `") {
        let missing = missing.trim_end_matches('`');
        field = match field.as_str() {
            "." => missing.to_owned(),
            _ => format!("{field}.{missing}"),
        };
        let rule = "must be given".to_owned();
        return ManifestError::Field {
            field,
            value: None,
            rule,
        };
    }
    if field == "." {
        "manifest".clone_into(&mut field);
    }
    let rule = match message.split_once(", expected ") {
        Some((_, expected)) => rule(expected),
        None if message.starts_with("invalid IP address") => "must be an IP address".to_owned(),
        None => message.to_owned(),
    };
    let value = at_path(root, path).map(shown);
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

/// The value at `path` in `root`.
fn at_path<'v>(root: &'v Value, path: &Path) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
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
