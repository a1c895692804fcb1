//! Labels and annotations.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::field::{Checked, Field};
use super::name::AcIdentifier;

/// The values of the labels `os` and `arch` that the specification names.
const ARCHITECTURES: [(&str, &[&str]); 3] = [
    (
        "linux",
        &[
            "amd64",
            "i386",
            "aarch64",
            "aarch64_be",
            "armv6l",
            "armv7l",
            "armv7b",
            "ppc64",
            "ppc64le",
            "s390x",
        ],
    ),
    ("freebsd", &["amd64", "i386", "arm"]),
    ("darwin", &["x86_64", "i386"]),
];

/// A label of an image: part of what identifies it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The label's name, for instance `version`, `os` or `arch`.
    pub name: AcIdentifier,
    /// Any text.
    pub value: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Metadata attached to an image, an app or a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The annotation's name.
    pub name: AcIdentifier,
    /// Any text. A JSON boolean is read as `true` or `false`: the specification calls all values
    /// strings, but its example of `appc.io/executor/supports-systemd-notify` is a boolean.
    #[serde(deserialize_with = "text_or_boolean")]
    pub value: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The value of the annotation called `name`.
pub fn annotation<'a>(annotations: &'a [Annotation], name: &str) -> Option<&'a str> {
    let found = annotations.iter().find(|a| a.name.as_ref() == name)?;
    Some(&found.value)
}

/// The value of the label called `name`.
pub fn label<'a>(labels: &'a [Label], name: &str) -> Option<&'a str> {
    let found = labels.iter().find(|l| l.name.as_ref() == name)?;
    Some(&found.value)
}

fn text_or_boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct TextOrBoolean;

    impl Visitor<'_> for TextOrBoolean {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bool<E>(self, value: bool) -> Result<String, E> {
            Ok(value.to_string())
        }
    }

    deserializer.deserialize_any(TextOrBoolean)
}

/// Checks a list of labels.
pub(super) fn check_labels(field: &Field, labels: &[Label]) -> Checked {
    field.check_unique("name", labels.iter().map(|l| l.name.as_str()))?;
    for (index, label) in labels.iter().enumerate() {
        if label.name.as_str() == "name" {
            // It would be taken for the image's name.
            let rule = "must not be \"name\"";
            return Err(field.at(index).key("name").broken(rule));
        }
    }
    let Some((index, os)) = find(labels, "os") else {
        return Ok(()); // `arch` says nothing without `os`
    };
    let Some((_, architectures)) = ARCHITECTURES.iter().find(|(name, _)| *name == os) else {
        let names: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        let rule = format!("must be one of {}", names.join(", "));
        return Err(field.at(index).key("value").refused(os, rule));
    };
    match find(labels, "arch") {
        Some((index, arch)) if !architectures.contains(&arch) => {
            let rule = format!("must for {os} be one of {}", architectures.join(", "));
            Err(field.at(index).key("value").refused(arch, rule))
        }
        _ => Ok(()),
    }
}

fn find<'a>(labels: &'a [Label], name: &str) -> Option<(usize, &'a str)> {
    let index = labels.iter().position(|l| l.name.as_str() == name)?;
    Some((index, &labels[index].value))
}

/// Checks a list of annotations.
pub(super) fn check_annotations(field: &Field, annotations: &[Annotation]) -> Checked {
    field.check_unique("name", annotations.iter().map(|a| a.name.as_str()))
}

/// Checks the annotations of an image, some of which have a form.
pub(super) fn check_image_annotations(field: &Field, annotations: &[Annotation]) -> Checked {
    check_annotations(field, annotations)?;
    for (index, annotation) in annotations.iter().enumerate() {
        let value = annotation.value.as_str();
        let (valid, rule) = match annotation.name.as_str() {
            "created" => (
                is_timestamp(value),
                "must be an RFC 3339 time such as 2014-10-27T19:32:27Z",
            ),
            "homepage" | "documentation" => (is_web_address(value), "must be an http or https URL"),
            _ => (true, ""),
        };
        if !valid {
            return Err(field.at(index).key("value").refused(value, rule));
        }
    }
    Ok(())
}

fn is_web_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Whether `text` has the form of RFC 3339's date-time, its numbers being in range.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, digits: usize, range: std::ops::RangeInclusive<u32>| {
        let text = text.get(from..from + digits);
        let digits = text.filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        digits
            .and_then(|d| d.parse().ok())
            .is_some_and(|n| range.contains(&n))
    };
    let is = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|b| expected.contains(b));
    let date = number(0, 4, 0..=9999) && is(4, b"-") && number(5, 2, 1..=12);
    let date = date && is(7, b"-") && number(8, 2, 1..=31);
    let time = is(10, b"Tt") && number(11, 2, 0..=23) && is(13, b":") && number(14, 2, 0..=59);
    let time = time && is(16, b":") && number(17, 2, 0..=60);
    let mut end = 19;
    if is(end, b".") {
        let digits = bytes[20..].iter().take_while(|b| b.is_ascii_digit());
        match digits.count() {
            0 => return false,
            count => end += 1 + count,
        }
    }
    let utc = is(end, b"Zz") && bytes.len() == end + 1;
    let offset = is(end, b"+-") && number(end + 1, 2, 0..=23) && is(end + 3, b":");
    let offset = offset && number(end + 4, 2, 0..=59) && bytes.len() == end + 6;
    date && time && (utc || offset)
}
