//! Reads the manifests of `golden/appc` and compares what they give; see its README.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use common::appc::{ImageManifest, ManifestError, PodManifest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A case of an error table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorCase {
    /// Values to put at JSON pointers.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    set: Map<String, Value>,
    /// JSON pointers to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
    error: String,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/appc")
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// The JSON files of a directory, in order.
fn json_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", directory.display());
    paths
}

/// Reads a manifest of the kind that `name` starts with, and writes it again.
fn normal_form(name: &str, bytes: &[u8]) -> Result<Vec<u8>, ManifestError> {
    if name.starts_with("pod") {
        PodManifest::parse(bytes).map(|manifest| manifest.to_json())
    } else {
        ImageManifest::parse(bytes).map(|manifest| manifest.to_json())
    }
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn manifests_have_their_normal_form() {
    let mut wrong = Vec::new();
    for path in json_files(&golden()) {
        let found = match normal_form(name(&path), &fs::read(&path).unwrap()) {
            Ok(json) => String::from_utf8(json).unwrap(),
            Err(error) => format!("error: {error}\n"),
        };
        let expected_path = path.with_extension("expected");
        if updating() {
            fs::write(&expected_path, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            let path = path.display();
            wrong.push(format!("{path}\nexpected:\n{expected}found:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn normal_forms_are_stable() {
    for path in json_files(&golden()) {
        if let Ok(once) = normal_form(name(&path), &fs::read(&path).unwrap()) {
            let twice = normal_form(name(&path), &once).unwrap();
            assert_eq!(once, twice, "{}", path.display());
        }
    }
}

#[test]
fn unknown_fields_are_kept() {
    for path in json_files(&golden()) {
        let bytes = fs::read(&path).unwrap();
        if let Ok(normal) = normal_form(name(&path), &bytes) {
            let before: Value = serde_json::from_slice(&bytes).unwrap();
            let after: Value = serde_json::from_slice(&normal).unwrap();
            let mut lost = Vec::new();
            find_lost("", &before, Some(&after), &mut lost);
            assert!(lost.is_empty(), "{}: lost {lost:?}", path.display());
        }
    }
}

/// Collects the fields of `before` that `after` lacks, leaving out those that say nothing: null,
/// false, a count of 0, an empty list.
fn find_lost(path: &str, before: &Value, after: Option<&Value>, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Some(Value::Object(after))) => {
            for (key, value) in before {
                let new_key = match key.as_str() {
                    "supplementaryGids" => "supplementaryGIDs",
                    key => key,
                };
                find_lost(&format!("{path}/{key}"), value, after.get(new_key), lost);
            }
        }
        (Value::Array(before), Some(Value::Array(after))) => {
            for (index, value) in before.iter().enumerate() {
                find_lost(&format!("{path}/{index}"), value, after.get(index), lost);
            }
        }
        (Value::Null | Value::Bool(false), None | Some(Value::Array(_))) => {}
        (Value::Number(_), None) if path.ends_with("/count") => {}
        (Value::Bool(value), Some(Value::String(text))) if *text == value.to_string() => {}
        (before, Some(after)) if before == after => {}
        _ => lost.push(path.to_owned()),
    }
}

#[test]
fn broken_rules_are_named() {
    let mut wrong = Vec::new();
    for kind in ["pod", "image"] {
        let directory = golden().join("errors").join(kind);
        let base = fs::read(directory.join("base.json")).unwrap();
        normal_form(kind, &base).unwrap();
        let base: Value = serde_json::from_slice(&base).unwrap();
        for path in json_files(&directory) {
            if name(&path) != "base" {
                check_table(kind, &base, &path, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_table(kind: &str, base: &Value, path: &Path, wrong: &mut Vec<String>) {
    let mut cases: Vec<ErrorCase> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for case in &mut cases {
        let mut manifest = base.clone();
        for (pointer, value) in &case.set {
            set(&mut manifest, pointer, value.clone());
        }
        for pointer in &case.remove {
            remove(&mut manifest, pointer);
        }
        let Err(error) = normal_form(kind, manifest.to_string().as_bytes()) else {
            let (path, line) = (path.display(), serde_json::to_string(&case).unwrap());
            wrong.push(format!("{path}: {line}\n  found: no error"));
            continue;
        };
        let found = error.to_string();
        if found != case.error && !updating() {
            let (path, line) = (path.display(), serde_json::to_string(&case).unwrap());
            wrong.push(format!("{path}: {line}\n  found: {found}"));
        }
        case.error = found;
    }
    if updating() {
        let lines: Vec<_> = cases
            .iter()
            .map(|case| serde_json::to_string(case).unwrap())
            .collect();
        fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
}

fn set(root: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match root.pointer_mut(parent).unwrap() {
        Value::Object(object) => drop(object.insert(key.to_owned(), value)),
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        _ => panic!("nothing can be set at {pointer}"),
    }
}

fn remove(root: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let object = root.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    object.remove(key).unwrap();
}

/// Every value of the base manifests, replaced by each of these, gives a manifest or an error
/// that names a field and speaks of JSON, not of Rust.
#[test]
fn no_value_at_any_place_is_beyond_the_reader() {
    let values = r#"[null, true, -1, 70000, 1.5, "", "x y", [], [[]], {}, {"a": 1}]"#;
    let values: Vec<Value> = serde_json::from_str(values).unwrap();
    for kind in ["pod", "image"] {
        let base = fs::read(golden().join("errors").join(kind).join("base.json")).unwrap();
        let base: Value = serde_json::from_slice(&base).unwrap();
        let mut pointers = Vec::new();
        find_pointers("", &base, &mut pointers);
        for pointer in &pointers {
            for value in &values {
                let mut manifest = base.clone();
                set(&mut manifest, pointer, value.clone());
                let Err(error) = normal_form(kind, manifest.to_string().as_bytes()) else {
                    continue;
                };
                let text = error.to_string();
                let spoken = ["expected", "struct", "u16", "u32", "Option", "line "];
                assert!(!spoken.iter().any(|word| text.contains(word)), "{text}");
                assert!(matches!(error, ManifestError::Field { .. }), "{text}");
            }
        }
    }
}

fn find_pointers(path: &str, value: &Value, pointers: &mut Vec<String>) {
    if !path.is_empty() {
        pointers.push(path.to_owned());
    }
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = key.replace('~', "~0").replace('/', "~1");
                find_pointers(&format!("{path}/{key}"), value, pointers);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                find_pointers(&format!("{path}/{index}"), value, pointers);
            }
        }
        _ => {}
    }
}
