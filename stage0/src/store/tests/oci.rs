//! OCI layouts: choice of the image, digests, malformed documents.

use std::fs;

use serde_json::{Value, json};

use super::archive::{self, Archive};
use super::layout::{CONFIG, INDEX, LAYER, Layout, MANIFEST, host_arch, sha256};
use super::{Fixture, ImportOptions};

fn layer(name: &str) -> Vec<u8> {
    Archive::new().file(name, "1").bytes()
}

#[test]
fn every_compression_and_both_forms() {
    let plain = layer("plain");
    let zipped = layer("zipped");
    let packed = layer("packed");
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let layers = [
        (layout.blob(LAYER, &plain), plain),
        (
            layout.blob(&format!("{LAYER}+gzip"), &archive::gzip(&zipped)),
            zipped,
        ),
        (
            layout.blob(
                &format!("{LAYER}+zstd"),
                &zstd::encode_all(&packed[..], 1).unwrap(),
            ),
            packed,
        ),
    ];
    layout.index(&[layout.manifest(json!({}), &layers)]);
    let tar = fixture.write("app.tar", &layout.archive());
    let packed = fixture.write("app.tar.gz", &archive::gzip(&layout.archive()));
    let ids: Vec<_> = [
        format!("{}", layout.path.display()),
        format!("oci:{}", layout.path.display()),
        format!("{}", tar.display()),
        format!("oci-archive:{}", tar.display()),
        format!("{}", packed.display()),
    ]
    .iter()
    .map(|source| fixture.import(source).unwrap().id)
    .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    fixture.rendered(&ids[0]).unwrap().assert(&[
        ("packed", "file 644 1"),
        ("plain", "file 644 1"),
        ("zipped", "file 644 1"),
    ]);
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

fn on(mut descriptor: Value, arch: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": arch});
    descriptor
}

#[test]
fn the_image_of_this_machine_is_chosen() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let image = |name: &str| layout.manifest(json!({}), &layout.plain(vec![layer(name)]));
    // Only the chosen manifest needs to be there.
    let mut absent = on(image("other"), "pdp11");
    absent["digest"] = json!(sha256(b"absent"));
    let mut attestation = on(image("attestation"), "unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let inner = json!({
        "schemaVersion": 2,
        "manifests": [absent, on(image("host"), &host_arch()), attestation],
    });
    layout.index(&[named(layout.document(INDEX, &inner), "1.0")]);
    let imported = fixture.import_path(&layout.path).unwrap();
    fixture
        .rendered(&imported.id)
        .unwrap()
        .assert(&[("host", "file 644 1")]);
    let manifest = fixture.store.manifest(&imported.id).unwrap();
    assert_eq!(manifest.name.as_str(), "app");
    assert_eq!(manifest.label("version"), Some("1.0"));
}

#[test]
fn images_of_other_machines_are_told() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let image = |arch: &str| layout.manifest(json!({"architecture": arch}), &[]);
    layout.index(&[on(image("s390x"), "s390x"), image("pdp11")]);
    let error = fixture.refused(layout.path.to_str().unwrap());
    assert!(
        error.ends_with(&format!(
            "has no image for linux/{}; it has: linux/s390x, linux/pdp11",
            host_arch()
        )),
        "{error}"
    );
    // A single one is taken, with a warning.
    layout.index(&[image("s390x")]);
    let warnings = fixture.import_path(&layout.path).unwrap().warnings;
    assert!(warnings[0].starts_with("the image is for linux/s390x, this machine is linux/"));
}

#[test]
fn one_of_several_images_is_named() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let image = |name: &str| layout.manifest(json!({}), &layout.plain(vec![layer(name)]));
    layout.index(&[
        named(image("one"), "1"),
        named(image("two"), "example.com/two:2"),
    ]);
    let path = layout.path.to_str().unwrap();
    let error = fixture.refused(path);
    assert!(
        error.ends_with("holds several images: 1, example.com/two:2; name one as PATH:REF"),
        "{error}"
    );
    let error = fixture.refused(&format!("{path}:3"));
    assert!(
        error.ends_with("has no image \"3\"; it has: 1, example.com/two:2"),
        "{error}"
    );
    let id = fixture
        .import(&format!("oci:{path}:example.com/two:2"))
        .unwrap()
        .id;
    fixture
        .rendered(&id)
        .unwrap()
        .assert(&[("two", "file 644 1")]);
    assert_eq!(
        fixture.store.manifest(&id).unwrap().name.as_str(),
        "example.com/two"
    );
    let options = ImportOptions {
        name: Some("mine:5".to_owned()),
    };
    let id = fixture
        .store
        .import(&format!("{path}:1").parse().unwrap(), &options)
        .unwrap()
        .id;
    assert_eq!(fixture.store.resolve("mine:5").unwrap(), id);
}

#[test]
fn every_digest_and_size_is_checked() {
    type Break = fn(&Layout, &Value, &Value);
    fn flip(layout: &Layout, descriptor: &Value) {
        let path = layout.blob_path(descriptor["digest"].as_str().unwrap());
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(path, content).unwrap();
    }
    fn shorten(layout: &Layout, descriptor: &Value) {
        let path = layout.blob_path(descriptor["digest"].as_str().unwrap());
        let content = fs::read(&path).unwrap();
        fs::write(path, &content[..content.len() - 1]).unwrap();
    }
    let cases: [(Break, &str); 5] = [
        (
            |layout, manifest, _| flip(layout, manifest),
            "digest is sha256:",
        ),
        (|layout, manifest, _| shorten(layout, manifest), "size is"),
        (|layout, _, layer| flip(layout, layer), "digest is sha256:"),
        (|layout, _, layer| shorten(layout, layer), "size is"),
        (
            |layout, _, layer| {
                fs::remove_file(layout.blob_path(layer["digest"].as_str().unwrap())).unwrap();
            },
            "No such file or directory",
        ),
    ];
    for (break_it, why) in cases {
        let fixture = Fixture::new();
        let layout = Layout::new(&fixture.path("app"));
        let layers = layout.plain(vec![layer("x")]);
        let manifest = layout.manifest(json!({}), &layers);
        layout.index(std::slice::from_ref(&manifest));
        break_it(&layout, &manifest, &layers[0].0);
        let error = fixture.refused(layout.path.to_str().unwrap());
        assert!(
            error.contains(why) && error.contains("blobs/sha256/"),
            "{error}"
        );
    }
}

#[test]
fn a_layer_must_be_what_the_configuration_says() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let layers = [(layout.blob(LAYER, &layer("x")), layer("y"))];
    layout.index(&[layout.manifest(json!({}), &layers)]);
    let error = fixture.refused(layout.path.to_str().unwrap());
    assert!(
        error.contains(": uncompressed: digest is sha256:"),
        "{error}"
    );

    let config = json!({"rootfs": {"type": "layers", "diff_ids": []}});
    layout.index(&[layout.manifest(config, &layers)]);
    let error = fixture.refused(layout.path.to_str().unwrap());
    assert!(
        error.ends_with("layers: 1 of them, but the config has 0 rootfs.diff_ids"),
        "{error}"
    );
}

#[test]
fn malformed_documents_are_named() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let index = |text: &str| fs::write(layout.path.join("index.json"), text).unwrap();
    let refused = || fixture.refused(layout.path.to_str().unwrap());
    for (text, why) in [
        ("{", "index.json: EOF"),
        (
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":1}]}"#,
            "index.json: manifests[0]: missing field `digest`",
        ),
        (
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":1,"digest":"sha256:../x"}]}"#,
            "index.json: manifests[0].digest: ",
        ),
        (
            r#"{"schemaVersion":2,"manifests":[]}"#,
            "index.json: manifests: has no image",
        ),
    ] {
        index(text);
        let error = refused();
        assert!(error.contains(why), "{error}");
    }
    let config = layout.document(CONFIG, &json!({"os": "linux", "architecture": host_arch(), "rootfs": {"type": "layers", "diff_ids": ["md5:00"]}}));
    let manifest =
        json!({"schemaVersion": 2, "config": config, "layers": [layout.blob(LAYER, b"")]});
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    assert!(
        refused().contains("config: rootfs.diff_ids[0]: digest"),
        "{}",
        refused()
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layout.blob("application/x+encrypted", b"")]});
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    assert!(refused().contains("layers[0].mediaType: \"application/x+encrypted\": is no layer"));
    let artifact = layout.document("application/x", &json!({}));
    let manifest = json!({"schemaVersion": 2, "config": artifact, "layers": []});
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    assert!(refused().contains("config.mediaType: \"application/x\": is no container image"));
    fs::write(
        layout.path.join("oci-layout"),
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    )
    .unwrap();
    assert!(refused().contains("oci-layout: imageLayoutVersion: \"2.0.0\": must be 1.x"));
}
