//! Layers over layers: replacement, whiteouts, opaque directories.

use super::Fixture;
use super::archive::Archive;

#[test]
fn later_layers_replace_files_and_keep_directories() {
    let fixture = Fixture::new();
    let lower = Archive::new()
        .dir("etc", 0o700)
        .file("etc/kept", "1")
        .file("etc/replaced", "1")
        .file("was-file", "1")
        .dir("was-dir", 0o755)
        .file("was-dir/gone", "1")
        .symlink("was-link", "etc");
    let upper = Archive::new()
        .dir("./etc/", 0o755)
        .file("etc/replaced", "2")
        .dir("was-file", 0o755)
        .file("was-dir", "2")
        .dir("was-link", 0o755);
    let tree = fixture.layers(vec![lower, upper]).unwrap();
    tree.assert(&[
        ("etc", "dir 755"),
        ("etc/kept", "file 644 1"),
        ("etc/replaced", "file 644 2"),
        ("was-dir", "file 644 2"),
        ("was-file", "dir 755"),
        ("was-link", "dir 755"),
    ]);
}

#[test]
fn whiteouts_hide_files_of_lower_layers_only() {
    let fixture = Fixture::new();
    let lower = Archive::new()
        .file("a/gone", "1")
        .file("a/kept", "1")
        .dir("tree", 0o755)
        .file("tree/deep/file", "1")
        .file("both", "1");
    // Wherever the whiteout stands, a file of the same layer stays.
    let upper = Archive::new()
        .file("both", "2")
        .file("a/.wh.gone", "")
        .file(".wh.tree", "")
        .file(".wh.both", "")
        .file("nowhere/.wh.nothing", "");
    let tree = fixture.layers(vec![lower, upper]).unwrap();
    tree.assert(&[
        ("a", "dir 755"),
        ("a/kept", "file 644 1"),
        ("both", "file 644 2"),
    ]);
}

#[test]
fn opaque_directories_start_empty() {
    let fixture = Fixture::new();
    let lower = Archive::new()
        .file("dir/old", "1")
        .file("dir/sub/old", "1")
        .file("other/old", "1");
    let upper = Archive::new()
        .file("dir/new", "2")
        .file("dir/.wh..wh..opq", "")
        .file("file/.wh..wh..opq", "");
    let tree = fixture.layers(vec![lower, upper]).unwrap();
    tree.assert(&[
        ("dir", "dir 755"),
        ("dir/new", "file 644 2"),
        ("other", "dir 755"),
        ("other/old", "file 644 1"),
    ]);
}

#[test]
fn an_opaque_root_hides_everything() {
    let fixture = Fixture::new();
    let lower = Archive::new().file("dir/old", "1").file("old", "1");
    let upper = Archive::new().file(".wh..wh..opq", "").file("new", "2");
    let tree = fixture.layers(vec![lower, upper]).unwrap();
    tree.assert(&[("new", "file 644 2")]);
}

#[test]
fn bookkeeping_of_storage_drivers_is_left_out() {
    let fixture = Fixture::new();
    let layer = Archive::new()
        .dir(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/1.2", "x")
        .file(".wh..wh.aufs", "")
        .file("file", "1");
    let tree = fixture.layers(vec![layer]).unwrap();
    tree.assert(&[("file", "file 644 1")]);
}

#[test]
fn paths_through_links_end_inside() {
    let fixture = Fixture::new();
    let lower = Archive::new()
        .dir("run", 0o755)
        .dir("var", 0o755)
        .symlink("var/run", "/run");
    let upper = Archive::new()
        .file("var/run/pid", "1")
        .file("var/run/.wh.gone", "");
    let tree = fixture.layers(vec![lower, upper]).unwrap();
    assert_eq!(tree.get("run/pid"), Some("file 644 1"));
    assert_eq!(tree.get("var/run"), Some("link /run"));
}

#[test]
fn empty_layers_and_repeated_layers() {
    let fixture = Fixture::new();
    let layer = || Archive::new().file("file", "1");
    let tree = fixture
        .layers(vec![layer(), Archive::new(), layer()])
        .unwrap();
    tree.assert(&[("file", "file 644 1")]);
}
