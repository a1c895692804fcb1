//! App Container Images, dependencies and white lists.

use sha2::{Digest, Sha512};

use super::Fixture;
use super::archive::{self, Archive, manifest};
use super::tree::Listing;

#[test]
fn the_id_is_the_digest_of_the_uncompressed_archive() {
    let plain = archive::aci(
        &manifest("example.com/app", ""),
        Archive::rootfs().file("f", "1"),
    );
    let expected = format!("sha512-{:x}", Sha512::digest(&plain));
    let fixture = Fixture::new();
    for bytes in [plain.clone(), archive::gzip(&plain), archive::xz(&plain)] {
        let path = fixture.write("app.aci", &bytes);
        assert_eq!(fixture.import_path(&path).unwrap().id.as_str(), expected);
    }
    let images = fixture.store.list().unwrap();
    assert_eq!(images.len(), 1);
    let tree = fixture.rendered(&images[0].id).unwrap();
    tree.assert(&[("f", "file 644 1")]);
}

#[test]
fn the_manifest_is_kept_as_it_is() {
    let fixture = Fixture::new();
    let text = manifest(
        "example.com/app",
        r#","labels":[{"name":"version","value":"1"}],"more":[1]"#,
    );
    let id = fixture.import_aci(&text, Archive::rootfs()).unwrap();
    let manifest = fixture.store.manifest(&id).unwrap();
    assert_eq!(manifest.label("version"), Some("1"));
    assert_eq!(manifest.extra["more"], serde_json::json!([1]));
}

#[test]
fn hard_links_name_files_by_their_path_in_the_archive() {
    let fixture = Fixture::new();
    let entries = Archive::rootfs().file("a", "1").hard_link("b", "a");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    fixture
        .rendered(&id)
        .unwrap()
        .assert(&[("a", "file 644 1"), ("b", "file 644 1")]);
    // Names that look like whiteouts are files here.
    let entries = Archive::rootfs().file(".wh.x", "1");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    fixture
        .rendered(&id)
        .unwrap()
        .assert(&[(".wh.x", "file 644 1")]);
}

fn depends_on(names: &[&str]) -> String {
    let list: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"imageName":"{name}"}}"#))
        .collect();
    format!(r#","dependencies":[{}]"#, list.join(","))
}

#[test]
fn dependencies_lie_below_in_their_order() {
    let fixture = Fixture::new();
    let import = |name: &str, fields: &str, entries| {
        fixture
            .import_aci(&manifest(name, fields), entries)
            .unwrap()
    };
    import(
        "base",
        "",
        Archive::rootfs().file("base", "base").file("all", "base"),
    );
    let first = Archive::rootfs()
        .file("all", "first")
        .file("deps", "first")
        .file("first", "first");
    import("first", &depends_on(&["base"]), first);
    import(
        "second",
        "",
        Archive::rootfs()
            .file("all", "second")
            .file("deps", "second"),
    );
    let top = Archive::rootfs().file("all", "top");
    let id = import("top", &depends_on(&["first", "second"]), top);
    fixture.rendered(&id).unwrap().assert(&[
        ("all", "file 644 top"),
        ("base", "file 644 base"),
        ("deps", "file 644 second"),
        ("first", "file 644 first"),
    ]);
}

#[test]
fn a_white_list_is_about_an_image_and_what_it_depends_on() {
    let fixture = Fixture::new();
    let base = Archive::rootfs()
        .dir("etc", 0o700)
        .file("etc/kept", "base")
        .file("etc/gone", "base")
        .file("gone/file", "base")
        .dir("empty", 0o711)
        .file("empty/gone", "base")
        .hard_link("link", "etc/gone");
    fixture.import_aci(&manifest("base", ""), base).unwrap();
    let list = r#","pathWhitelist":["/etc/kept","/own","/empty/","/made/here/","/link"]"#;
    let fields = format!("{}{list}", depends_on(&["base"]));
    let middle = Archive::rootfs()
        .file("own", "middle")
        .file("own-gone", "middle");
    let id = fixture
        .import_aci(&manifest("middle", &fields), middle)
        .unwrap();
    let expected = [
        ("empty", "dir 711"),
        ("etc", "dir 700"),
        ("etc/kept", "file 644 base"),
        ("link", "file 644 base"),
        ("made", "dir 755"),
        ("made/here", "dir 755"),
        ("own", "file 644 middle"),
    ];
    fixture.rendered(&id).unwrap().assert(&expected);
    // Above it nothing is hidden, nor what other dependencies bring.
    let other = Archive::rootfs().file("own-gone", "other");
    fixture.import_aci(&manifest("other", ""), other).unwrap();
    let fields = depends_on(&["other", "middle"]);
    let id = fixture
        .import_aci(&manifest("top", &fields), Archive::rootfs())
        .unwrap();
    let tree = fixture.rendered(&id).unwrap();
    let mut expected = expected.to_vec();
    expected.push(("own-gone", "file 644 other"));
    tree.assert(&expected);
}

#[test]
fn missing_and_circular_dependencies_are_named() {
    let fixture = Fixture::new();
    let fields = r#","dependencies":[{"imageName":"example.com/base","labels":[{"name":"version","value":"1"}]}]"#;
    let id = fixture
        .import_aci(&manifest("top", fields), Archive::rootfs())
        .unwrap();
    let error = format!("{:#}", fixture.store.render(&id).unwrap_err());
    assert_eq!(
        error,
        "image top: dependencies[0]: image example.com/base,version=1: is not in the store"
    );

    let id = fixture
        .import_aci(&manifest("a", &depends_on(&["b"])), Archive::rootfs())
        .unwrap();
    fixture
        .import_aci(&manifest("b", &depends_on(&["a"])), Archive::rootfs())
        .unwrap();
    let error = format!("{:#}", fixture.store.render(&id).unwrap_err());
    assert_eq!(error, "image a: dependencies: depends on itself");
}

#[test]
fn a_plain_copy_is_the_same_tree() {
    let fixture = Fixture::new();
    let entries = Archive::rootfs()
        .dir("d", 0o700)
        .file("d/f", "1")
        .symlink("l", "d");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let dest = fixture.path("copy");
    fixture.store.render_to(&id, &dest).unwrap();
    assert_eq!(Listing::of(&dest), fixture.rendered(&id).unwrap());
    let error = format!("{:#}", fixture.store.render_to(&id, &dest).unwrap_err());
    assert!(error.ends_with("is not empty"), "{error}");
    assert_eq!(Listing::of(&dest).get("d/f"), Some("file 644 1"));
}
