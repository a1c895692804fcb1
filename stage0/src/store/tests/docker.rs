//! What `docker save` writes.

use serde_json::json;
use tar::EntryType;

use super::Fixture;
use super::archive::Archive;
use super::layout::{host_arch, sha256};

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diffs: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = json!({
        "architecture": host_arch(),
        "os": "linux",
        "config": {"Cmd": ["/run"], "Labels": null, "Volumes": null},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    config.to_string().into_bytes()
}

fn regular(archive: Archive, name: &str, content: &[u8]) -> Archive {
    archive.raw(name, EntryType::Regular, 0o644, "", content)
}

/// An archive as dockers before version 25 wrote it, in which a layer that is there twice is a symlink.
fn old(tags: &[&str]) -> Vec<u8> {
    let one = Archive::new().file("one", "1").bytes();
    let two = Archive::new().file("two", "2").bytes();
    let config = config(&[&one, &two, &one]);
    let name = format!("{}.json", &sha256(&config)["sha256:".len()..]);
    let manifest = json!([{
        "Config": name,
        "RepoTags": tags,
        "Layers": ["aa/layer.tar", "bb/layer.tar", "cc/layer.tar"],
    }]);
    let archive = Archive::new().dir("aa", 0o755);
    let archive = regular(archive, "aa/VERSION", b"1.0");
    let archive = regular(archive, "aa/layer.tar", &one);
    let archive = regular(archive, "bb/layer.tar", &two);
    let archive = archive.symlink("cc/layer.tar", "../aa/layer.tar");
    let archive = regular(archive, &name, &config);
    regular(archive, "manifest.json", manifest.to_string().as_bytes()).bytes()
}

#[test]
fn old_archives() {
    let fixture = Fixture::new();
    let path = fixture.write("save.tar", &old(&["example/App:1.0", "example/app:latest"]));
    let id = fixture.import_path(&path).unwrap().id;
    let tree = [("one", "file 644 1"), ("two", "file 644 2")];
    fixture.rendered(&id).unwrap().assert(&tree);
    let manifest = fixture.store.manifest(&id).unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.label("version")),
        ("example/app", Some("1.0"))
    );
    let source = format!("docker-archive:{}:example/app:latest", path.display());
    let id = fixture.import(&source).unwrap().id;
    assert_eq!(
        fixture.store.manifest(&id).unwrap().label("version"),
        Some("latest")
    );
    let error = fixture
        .import(&format!("{}:other", path.display()))
        .unwrap_err();
    let error = format!("{error:#}");
    let expected = "has no image \"other\"; it has: example/App:1.0, example/app:latest";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn images_without_a_tag_are_named_after_the_file() {
    let fixture = Fixture::new();
    let path = fixture.write("My App.tar", &old(&[]));
    let id = fixture.import_path(&path).unwrap().id;
    assert_eq!(fixture.store.manifest(&id).unwrap().name.as_str(), "my-app");
}

/// An archive as dockers since version 25 write it: an OCI layout with the old index beside the new.
fn new() -> Vec<u8> {
    let layer = Archive::new().file("one", "1").bytes();
    let config = config(&[&layer]);
    let descriptor = |kind: &str, content: &[u8]| {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": sha256(content), "size": content.len()})
    };
    let oci = json!({
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string();
    let mut image = descriptor("manifest.v1+json", oci.as_bytes());
    image["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/app:2",
        "org.opencontainers.image.ref.name": "2",
    });
    let index = json!({"schemaVersion": 2, "manifests": [image]}).to_string();
    let blob = |content: &[u8]| format!("blobs/{}", sha256(content).replace(':', "/"));
    let manifest = json!([{
        "Config": blob(&config),
        "RepoTags": ["app:2"],
        "Layers": [blob(&layer)],
    }])
    .to_string();
    let mut archive = Archive::new().dir("blobs", 0o755);
    for content in [&layer[..], &config, oci.as_bytes()] {
        archive = regular(archive, &blob(content), content);
    }
    archive = regular(archive, "index.json", index.as_bytes());
    archive = regular(archive, "manifest.json", manifest.as_bytes());
    regular(archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).bytes()
}

#[test]
fn new_archives() {
    let fixture = Fixture::new();
    let path = fixture.write("save.tar", &new());
    for (source, name) in [
        (format!("{}", path.display()), "docker.io/library/app"),
        (format!("docker-archive:{}", path.display()), "app"),
    ] {
        let id = fixture.import(&source).unwrap().id;
        let manifest = fixture.store.manifest(&id).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.label("version")),
            (name, Some("2"))
        );
        fixture
            .rendered(&id)
            .unwrap()
            .assert(&[("one", "file 644 1")]);
    }
}

#[test]
fn broken_archives_are_refused() {
    let layer = Archive::new().file("one", "1").bytes();
    let good = config(&[&layer]);
    let with = |config: &[u8], name: &str, layers: serde_json::Value| {
        let manifest = json!([{"Config": name, "RepoTags": null, "Layers": layers}]);
        let archive = regular(Archive::new(), name, config);
        let archive = regular(archive, "l.tar", &layer);
        regular(archive, "manifest.json", manifest.to_string().as_bytes()).bytes()
    };
    let wrong = format!("{}.json", "0".repeat(64));
    let other = config(&[b"other"]);
    let cut = {
        let whole = with(&good, "c.json", json!(["l.tar"]));
        whole[..1800].to_vec()
    };
    for (bytes, why) in [
        (with(&good, &wrong, json!(["l.tar"])), "expected sha256:000"),
        (
            with(&good, "c.json", json!(["missing.tar"])),
            "has no file \"missing.tar\"",
        ),
        (with(&good, "c.json", json!([])), "Layers: 0 of them"),
        (
            with(&other, "c.json", json!(["l.tar"])),
            "l.tar: uncompressed: digest is",
        ),
        (
            with(b"{}", "c.json", json!(["l.tar"])),
            "c.json: missing field `architecture`",
        ),
        (
            regular(Archive::new(), "manifest.json", b"[]").bytes(),
            "manifest.json: has no image",
        ),
        (
            regular(Archive::new(), "manifest.json", b"[{}]").bytes(),
            "manifest.json: [0]",
        ),
        (cut, "is cut off"),
    ] {
        let fixture = Fixture::new();
        let path = fixture.write("save.tar", &bytes);
        let error = fixture.refused(path.to_str().unwrap());
        assert!(error.contains(why) && error.contains("save.tar"), "{error}");
    }
}
