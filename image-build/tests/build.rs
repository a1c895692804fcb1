//! The program as a whole, with the smallest static program in place of each entrypoint.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IMAGE_BUILD: &str = env!("CARGO_BIN_EXE_image-build");
const ENTRYPOINTS: [&str; 16] = [
    "init",
    "enter",
    "stop",
    "gc",
    "pid1",
    "prepare-app",
    "reaper",
    "health",
    "shutdown",
    "app-add",
    "app-start",
    "app-stop",
    "app-rm",
    "manage",
    "attach",
    "iottymux",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn entrypoints(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(folder.path().join(name), static_program()).unwrap();
    }
    folder
}

/// The header of a 64-bit ELF program without segments and sections.
fn static_program() -> Vec<u8> {
    const EXECUTABLE_FOR_X86_64: [u8; 4] = [2, 0, 62, 0];
    const HEADER_SIZE: u8 = 64;
    let mut header = vec![0; usize::from(HEADER_SIZE)];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16..20].copy_from_slice(&EXECUTABLE_FOR_X86_64);
    header[20] = 1;
    header[52] = HEADER_SIZE;
    header
}

fn image_build(entrypoints: &Path) -> Command {
    let mut command = Command::new(IMAGE_BUILD);
    command
        .arg("--entrypoints")
        .arg(entrypoints)
        .arg("--rootfs")
        .arg(repository().join("rootfs"))
        .arg("--cache")
        .arg(repository().join("build/cache/deb"));
    command
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    output
}

fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(254));
    String::from_utf8(output.stderr).unwrap()
}

/// The entries of an image: path, mode, and the content of files.
fn entries(image: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let file = fs::File::open(image).unwrap();
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mode = entry.header().mode().unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, mode, content)
    });
    entries.collect()
}

/// Packages come from apt, whose lists a bare checkout of the tests may not have.
fn apt_has_lists() -> bool {
    let asked = Command::new("apt-get")
        .args(["download", "--print-uris", "systemd-container"])
        .output();
    let ready = asked.is_ok_and(|output| output.status.success());
    if !ready {
        eprintln!("skipped: apt has no lists here (`apt-get update` fetches them)");
    }
    ready
}

#[test]
fn builds_the_same_complete_image_twice() {
    if !apt_has_lists() {
        return;
    }
    let programs = entrypoints(&ENTRYPOINTS);
    let output = tempfile::tempdir().unwrap();
    let images = ["1.aci", "2.aci"].map(|name| output.path().join(name));
    for image in &images {
        succeeds(image_build(programs.path()).arg("--output").arg(image));
    }
    assert!(fs::read(&images[0]).unwrap() == fs::read(&images[1]).unwrap());

    let entries = entries(&images[0]);
    assert_eq!(entries[0].0, "manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&entries[0].2).unwrap();
    assert_eq!(manifest["acKind"], "ImageManifest");
    let labels: BTreeMap<_, _> = (manifest["labels"].as_array().unwrap().iter())
        .map(|label| {
            (
                label["name"].as_str().unwrap(),
                label["value"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(labels["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((labels["os"], labels["arch"]), ("linux", "amd64"));

    let modes: BTreeMap<_, _> = (entries.iter())
        .map(|(path, mode, _)| (path.as_str(), *mode))
        .collect();
    for folder in [
        "opt/stage2",
        "rkt/status",
        "rkt/env",
        "rkt/iottymux",
        "var/log/journal",
    ] {
        assert_eq!(
            modes.get(format!("rootfs/{folder}/").as_str()),
            Some(&0o755),
            "{folder}"
        );
    }
    for program in ENTRYPOINTS.map(|name| format!("rootfs/{name}")) {
        assert_eq!(modes.get(program.as_str()), Some(&0o755), "{program}");
    }
    assert!(modes.contains_key("rootfs/etc/hosts-fallback"));
    assert!(!modes.contains_key("rootfs/etc/machine-id"));
    let interpreters = ["/sh", "/bash", "/dash", "/perl", "/python3", "/busybox"];
    assert!(
        !modes
            .keys()
            .any(|path| interpreters.iter().any(|name| path.ends_with(name)))
    );
}

#[test]
fn lists_files_with_their_packages() {
    if !apt_has_lists() {
        return;
    }
    let programs = entrypoints(&ENTRYPOINTS);
    let listed = succeeds(image_build(programs.path()).args(["--list", "--format", "json"]));
    let files: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let package = |path: &str| {
        let file = files.iter().find(|file| file["path"] == path).unwrap();
        assert!(file["size"].as_u64() > Some(0) && file["version"].is_string());
        file["package"].as_str().unwrap().to_owned()
    };
    assert_eq!(package("usr/bin/systemd-nspawn"), "systemd-container");
    assert_eq!(package("usr/lib/x86_64-linux-gnu/libc.so.6"), "libc6");
    assert_eq!(package("init"), "stage1");
    assert_eq!(package("usr/lib/stage1/systemd"), "systemd");
}

#[test]
fn a_missing_entrypoint_is_named() {
    let programs = entrypoints(&["init", "stop", "gc", "reaper"]);
    let error = fails(image_build(programs.path()).arg("--list"));
    assert_eq!(
        error,
        "image-build: check the image: the manifest names /enter, and there is no such entrypoint\n"
    );
}

#[test]
fn the_first_and_the_last_program_of_the_pod_must_be_there() {
    if !apt_has_lists() {
        return;
    }
    for (missing, path) in [("pid1", "systemd"), ("shutdown", "systemd-shutdown")] {
        let present = ENTRYPOINTS.into_iter().filter(|name| *name != missing);
        let programs = entrypoints(&present.collect::<Vec<_>>());
        let error = fails(image_build(programs.path()).arg("--list"));
        let expected =
            format!("there is no /usr/lib/systemd/{path}, which becomes the pod's PID 1\n");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn other_flavors_are_refused() {
    let error = fails(Command::new(IMAGE_BUILD).args(["--flavor", "host", "--list"]));
    assert!(
        error.contains("'host'") && error.contains("[possible values: default]"),
        "{error}"
    );
}

#[test]
fn an_output_is_needed() {
    let programs = entrypoints(&[]);
    let error = fails(&mut image_build(programs.path()));
    assert!(error.contains("--output"), "{error}");
}

#[test]
fn network_plugins_are_there_if_asked_for() {
    if !apt_has_lists() {
        return;
    }
    let programs = entrypoints(&ENTRYPOINTS);
    let listed = |options: &[&str]| {
        let output = succeeds(image_build(programs.path()).arg("--list").args(options));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!listed(&[]).contains("usr/lib/cni/"));
    let with = listed(&["--with-cni"]);
    for plugin in ["ptp", "host-local", "portmap", "bandwidth"] {
        assert!(with.contains(&format!("usr/lib/cni/{plugin} ")), "{with}");
    }
    assert!(with.contains("containernetworking-plugins"), "{with}");
}
