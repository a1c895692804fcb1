//! Archives that try to reach out of the tree, or that are broken.

use std::fs;

use tar::EntryType;

use super::archive::{self, Archive, manifest};
use super::{Fixture, layout, tree};

/// A directory beside the store, at which hostile links point, and which must stay as it is.
fn outside(fixture: &Fixture) -> String {
    let path = fixture.path("outside");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "untouched").unwrap();
    path.to_str().unwrap().to_owned()
}

fn assert_untouched(fixture: &Fixture) {
    tree::Listing::of(&fixture.path("outside")).assert(&[("file", "file 644 untouched")]);
}

#[test]
fn names_that_climb_are_refused() {
    for name in ["../outside/file", "a/../../outside/file", "rootfs/../../x"] {
        let fixture = Fixture::new();
        outside(&fixture);
        let layer = Archive::new()
            .raw(name, EntryType::Regular, 0o644, "", b"x")
            .bytes();
        layout::Layout::new(&fixture.path("layout")).image(vec![layer]);
        let error = fixture.refused(fixture.path("layout").to_str().unwrap());
        assert!(
            error.ends_with(&format!("entry {name:?}: must not have '..' in its name")),
            "{error}"
        );
        assert_untouched(&fixture);
    }
}

#[test]
fn absolute_names_are_inside() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let layer = Archive::new().file(&format!("{outside}/file"), "inside");
    let tree = fixture.layers(vec![layer]).unwrap();
    assert_eq!(
        tree.get(&format!("{}/file", &outside[1..])),
        Some("file 644 inside")
    );
    assert_untouched(&fixture);
}

#[test]
fn symlinks_lead_nowhere_else() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let climbing = format!("{}{outside}", "../".repeat(20));
    let layer = Archive::new()
        .symlink("absolute", &outside)
        .file("absolute/file", "inside")
        .symlink("climbing", &climbing)
        .file("climbing/other", "inside")
        .symlink("file", &format!("{outside}/file"))
        .file("file", "replaced");
    let tree = fixture.layers(vec![layer]).unwrap();
    assert_eq!(
        tree.get(&format!("{}/file", &outside[1..])),
        Some("file 644 inside")
    );
    assert_eq!(
        tree.get(&format!("{}/other", &outside[1..])),
        Some("file 644 inside")
    );
    assert_eq!(tree.get("file"), Some("file 644 replaced"));
    assert_untouched(&fixture);
}

#[test]
fn whiteouts_through_symlinks_stay_inside() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let lower = Archive::new()
        .symlink("link", &outside)
        .symlink("opaque", &outside);
    let upper = Archive::new()
        .file("link/.wh.file", "")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh.link", "");
    fixture.layers(vec![lower, upper]).unwrap();
    assert_untouched(&fixture);
}

#[test]
fn hard_links_are_to_files_of_the_tree() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let good = Archive::new()
        .file("a", "1")
        .hard_link("b", "a")
        .hard_link("a", "a");
    let tree = fixture.layers(vec![good]).unwrap();
    tree.assert(&[("a", "file 644 1"), ("b", "file 644 1")]);

    for (target, why) in [
        (format!("{outside}/file"), "which is not in the tree"),
        ("link/file".to_owned(), "which is not in the tree"),
        ("dir".to_owned(), "which is a directory"),
        ("../outside/file".to_owned(), "must not have '..'"),
    ] {
        let fixture = Fixture::new();
        let layer = Archive::new()
            .dir("dir", 0o755)
            .symlink("link", &outside)
            .hard_link("stolen", &target);
        let error = format!("{:#}", fixture.layers(vec![layer]).unwrap_err());
        assert!(
            error.contains(why) && error.contains("unpack \"stolen\""),
            "{error}"
        );
        assert!(
            fs::read_dir(fixture.path("data/store/trees"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}

#[test]
fn a_link_that_takes_a_parents_place_is_not_followed_by_what_is_cached() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let layer = Archive::new()
        .file("dir/first", "1")
        .symlink("dir", &outside)
        .file("dir/second", "2");
    let tree = fixture.layers(vec![layer]).unwrap();
    assert_eq!(tree.get("dir/first"), None);
    assert_eq!(tree.get("dir"), Some(format!("link {outside}").as_str()));
    assert_untouched(&fixture);
}

#[test]
fn the_root_stays_a_directory() {
    let fixture = Fixture::new();
    let outside = outside(&fixture);
    let layer = Archive::new().raw("./", EntryType::Symlink, 0o777, &outside, b"");
    let error = format!("{:#}", fixture.layers(vec![layer]).unwrap_err());
    assert!(error.ends_with("the root must be a directory"), "{error}");
}

#[test]
fn unknown_entry_types_are_refused() {
    let fixture = Fixture::new();
    let layer = Archive::new().raw("x", EntryType::new(b'V'), 0o644, "", b"");
    let error = format!("{:#}", fixture.layers(vec![layer]).unwrap_err());
    assert!(
        error.ends_with("unpack \"x\": its type 'V' is not supported"),
        "{error}"
    );
}

#[test]
fn acis_have_a_manifest_and_a_root_and_nothing_else() {
    let text = manifest("example.com/app", "");
    let file = |name: &str| Archive::new().raw(name, EntryType::Regular, 0o644, "", b"x");
    for (bytes, why) in [
        (Archive::rootfs().bytes(), "has no manifest"),
        (file("manifest").bytes(), "has no rootfs"),
        (
            archive::aci(&text, file("rootfs/../x")),
            "must not have '..'",
        ),
        (
            archive::aci(
                &text,
                Archive::rootfs().raw("x", EntryType::Regular, 0, "", b""),
            ),
            "has only",
        ),
        (
            archive::aci("{}", Archive::rootfs()),
            "manifest: acKind: must be given",
        ),
        (archive::aci("x", Archive::rootfs()), "manifest: not JSON"),
        (
            archive::aci(
                &text,
                Archive::rootfs().raw("manifest", EntryType::Regular, 0, "", b""),
            ),
            "has two manifests",
        ),
    ] {
        let fixture = Fixture::new();
        let path = fixture.write("bad.aci", &bytes);
        let error = fixture.refused(&format!("aci:{}", path.display()));
        assert!(
            error.starts_with(&format!("import {}: ", path.display())),
            "{error}"
        );
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn cut_off_files_are_refused() {
    let content = "x".repeat(100_000);
    let plain = archive::aci(&manifest("a", ""), Archive::rootfs().file("file", &content));
    for bytes in [plain.clone(), archive::gzip(&plain), archive::xz(&plain)] {
        for length in [bytes.len() / 2, 700, 100, 0] {
            let fixture = Fixture::new();
            let path = fixture.write("cut.aci", &bytes[..length.min(bytes.len() - 40)]);
            fixture.refused(&format!("aci:{}", path.display()));
        }
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let fixture = Fixture::new();
    let text = fixture.write("text", &b"hello\x1b[31m\nworld".repeat(100));
    let other = fixture.write("other.tar", &Archive::new().file("a", "b").bytes());
    let empty = fixture.write("empty.tar", &Archive::new().bytes());
    fs::create_dir(fixture.path("dir")).unwrap();
    for (source, why) in [
        (text, "is no valid tar archive: "),
        (other, "is neither an ACI nor an OCI nor a docker archive"),
        (empty, "is no image: the archive is empty"),
        (
            fixture.path("dir"),
            "is no OCI layout: it has no file oci-layout",
        ),
        (fixture.path("missing"), "No such file or directory"),
    ] {
        let error = fixture.refused(source.to_str().unwrap());
        assert!(
            error.contains(why) && error.contains(source.to_str().unwrap()),
            "{error}"
        );
    }
}
