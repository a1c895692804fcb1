//! The `image` commands, as a user types them.

#![allow(
    clippy::unwrap_used,
    reason = "what a test needs and does not find is its failure"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tar::{Builder, EntryType, Header};

/// Runs stage0 on a data directory of the test's own.
fn stage0(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stage0"));
    command.current_dir(dir).arg("--dir=data").args(args);
    command.output().unwrap()
}

/// The output of a command that must succeed without a word on standard error.
#[track_caller]
fn succeeds(dir: &Path, args: &[&str]) -> String {
    let output = stage0(dir, args);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a command that must fail as the contract says.
#[track_caller]
fn fails(dir: &Path, args: &[&str]) -> String {
    let output = stage0(dir, args);
    assert_eq!(output.status.code(), Some(254), "{args:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn write_aci(path: &Path, version: &str) {
    let manifest = format!(
        r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app",
            "labels":[{{"name":"version","value":"{version}"}}]}}"#
    );
    let mut archive = Builder::new(Vec::new());
    for (name, kind, content) in [
        ("manifest", EntryType::Regular, manifest.as_bytes()),
        ("rootfs", EntryType::Directory, b""),
    ] {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    std::fs::write(path, archive.into_inner().unwrap()).unwrap();
}

#[test]
fn images_come_are_listed_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_aci(&dir.join("one.aci"), "1");
    write_aci(&dir.join("two.aci"), "2");
    assert_eq!(succeeds(dir, &["image", "list", "--format=json"]), "[]\n");

    let ids = succeeds(dir, &["image", "import", "aci:one.aci", "two.aci"]);
    let ids: Vec<_> = ids.lines().collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| id.len() == "sha512-".len() + 128));
    assert_eq!(
        succeeds(dir, &["image", "import", "one.aci"]).trim_end(),
        ids[0]
    );

    let list: Value =
        serde_json::from_str(&succeeds(dir, &["image", "list", "--format=json"])).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["id"], ids[0]);
    assert_eq!(list[0]["name"], "example.com/app");
    assert_eq!(list[1]["version"], "2");
    assert_eq!(list[1]["labels"]["version"], "2");
    assert!(list[0]["imported"].as_str().unwrap().ends_with('Z'));
    let table = succeeds(dir, &["image", "list"]);
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["ID", "NAME", "VERSION"]);
    assert_eq!(rows[2][..3], [&ids[1][..19], "example.com/app", "2"]);

    let manifest = succeeds(dir, &["image", "cat-manifest", "app:2"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["labels"][0]["value"], "2");

    assert_eq!(succeeds(dir, &["image", "rm", &ids[0][..30], "app:2"]), "");
    assert_eq!(succeeds(dir, &["image", "list", "--no-legend"]), "");
}

#[test]
fn failures_are_one_line_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_aci(&dir.join("good.aci"), "1");
    std::fs::write(dir.join("bad"), "no image").unwrap();
    for (args, message) in [
        (
            &["image", "import", "missing"][..],
            "stage0: import missing: No such file or directory (os error 2)\n",
        ),
        (
            &["image", "import", "aci:good.aci", "--name=x"],
            "stage0: import good.aci: an ACI has a name of its own\n",
        ),
        (
            &["image", "import", "a", "b", "--name=x"],
            "stage0: --name: cannot be given to several images\n",
        ),
        (
            &["image", "rm", "none"],
            "stage0: image none: is not in the store\n",
        ),
        (
            &["image", "cat-manifest", "none"],
            "stage0: image none: is not in the store\n",
        ),
    ] {
        assert_eq!(fails(dir, args), message);
    }
    let message = fails(dir, &["image", "import", "bad"]);
    assert!(
        message.starts_with("stage0: import bad: is no valid tar archive: ")
            && message.lines().count() == 1
    );
    assert!(fails(dir, &["image", "import"]).contains("<SOURCE>"));
    assert!(fails(dir, &["image", "import", "oci:"]).contains("names no file"));
    assert_eq!(succeeds(dir, &["image", "list", "--no-legend"]), "");
}
