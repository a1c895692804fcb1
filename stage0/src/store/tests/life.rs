//! Finding, rendering and removing images, and what is left of processes that died.

use std::fs;

use super::archive::{self, Archive, manifest};
use super::{Fixture, Store, tree};

fn version(version: &str) -> String {
    format!(r#","labels":[{{"name":"version","value":"{version}"}}]"#)
}

fn import(fixture: &Fixture, name: &str, fields: &str, content: &str) -> common::appc::ImageId {
    let entries = Archive::rootfs().file("file", content);
    fixture
        .import_aci(&manifest(name, fields), entries)
        .unwrap()
}

#[test]
fn images_are_found_by_name_version_and_id() {
    let fixture = Fixture::new();
    let one = import(&fixture, "example.com/app", &version("1"), "1");
    let two = import(&fixture, "example.com/app", &version("2"), "2");
    let plain = import(&fixture, "other.org/team/tool", "", "3");
    let find = |name: &str| fixture.store.resolve(name);
    assert_eq!(find(one.as_str()).unwrap(), one);
    assert_eq!(find(&one.as_str()[..20]).unwrap(), one);
    assert_eq!(find("example.com/app:1").unwrap(), one);
    assert_eq!(find("app:2").unwrap(), two);
    assert_eq!(find("tool").unwrap(), plain);
    assert_eq!(find("team/tool:latest").unwrap(), plain);
    let error = |name: &str| format!("{:#}", find(name).unwrap_err());
    assert_eq!(
        error("app"),
        format!(
            "image app: is any of example.com/app:1 ({}), example.com/app:2 ({})",
            &one.as_str()[..19],
            &two.as_str()[..19]
        )
    );
    assert!(error("sha512-").starts_with("image sha512-: is any of "));
    for name in ["ool", "app:3", "sha512-ffffffffff", ""] {
        assert_eq!(error(name), format!("image {name}: is not in the store"));
    }
}

#[test]
fn of_equal_names_the_last_import_is_meant() {
    let fixture = Fixture::new();
    let old = import(&fixture, "app", &version("1"), "old");
    let new = import(&fixture, "app", &version("1"), "new");
    let record = fixture
        .path("data/store/images")
        .join(old.as_str())
        .join("image.json");
    let text = fs::read_to_string(&record).unwrap();
    let imported = text.find("\"imported\": ").unwrap();
    // The clock has only seconds: let the first be long ago.
    let text = format!(
        "{}\"imported\": 1{}",
        &text[..imported],
        &text[text.find(",\n").unwrap()..]
    );
    fs::write(&record, text).unwrap();
    assert_eq!(fixture.store.resolve("app").unwrap(), new);
    // Another import of the old one makes it the last.
    let record = fixture
        .path("data/store/images")
        .join(new.as_str())
        .join("image.json");
    let text = fs::read_to_string(&record).unwrap();
    let text = format!(
        "{}\"imported\": 2{}",
        &text[..imported],
        &text[text.find(",\n").unwrap()..]
    );
    fs::write(&record, text).unwrap();
    import(&fixture, "app", &version("1"), "old");
    assert_eq!(fixture.store.resolve("app").unwrap(), old);
}

#[test]
fn a_tree_is_made_once() {
    let fixture = Fixture::new();
    let id = import(&fixture, "app", "", "1");
    let first = fixture.store.render(&id).unwrap();
    fs::write(first.rootfs.join("mark"), "").unwrap();
    let second = fixture.store.render(&id).unwrap();
    assert_eq!(first.id, second.id);
    assert!(second.rootfs.join("mark").exists());
    assert!(first.rootfs.is_absolute());
    assert_eq!(fixture.store.tree(&first.id).unwrap().rootfs, first.rootfs);
}

/// Lets a tree be from before the last boot.
fn as_if_booted_since(tree: &std::path::Path) {
    let path = tree.join("../tree.json");
    let mut description: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    description["unconfirmed"] = "00000000-0000-0000-0000-000000000000".into();
    fs::write(&path, description.to_string()).unwrap();
}

#[test]
fn trees_that_lost_data_in_a_power_failure_are_made_again() {
    let fixture = Fixture::new();
    let id = import(&fixture, "app", "", "1");
    let tree = fixture.store.render(&id).unwrap();
    let inode = || {
        use std::os::unix::fs::MetadataExt;
        tree.rootfs.join("file").metadata().unwrap().ino()
    };
    let first = inode();
    as_if_booted_since(&tree.rootfs);
    fixture.store.tree(&tree.id).unwrap();
    assert_eq!(inode(), first, "undamaged");
    // Now it is known to be on the disk.
    fs::write(tree.rootfs.join("file"), "").unwrap();
    fixture.store.render(&id).unwrap();
    assert_eq!(inode(), first, "confirmed");

    as_if_booted_since(&tree.rootfs);
    fixture.store.tree(&tree.id).unwrap();
    tree::Listing::of(&tree.rootfs).assert(&[("file", "file 644 1")]);
    fs::write(tree.rootfs.join("../tree.json"), "").unwrap();
    fixture.store.render(&id).unwrap();
    tree::Listing::of(&tree.rootfs).assert(&[("file", "file 644 1")]);
}

#[test]
fn many_at_once_make_one_tree() {
    let fixture = Fixture::new();
    let id = import(&fixture, "app", "", "1");
    let data = fixture.path("data");
    let trees: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Store::open(&data).unwrap().render(&id).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(trees.iter().all(|tree| tree.id == trees[0].id));
    tree::Listing::of(&trees[0].rootfs).assert(&[("file", "file 644 1")]);
}

#[test]
fn removal_takes_what_only_the_image_needs() {
    let fixture = Fixture::new();
    let base = import(&fixture, "base", "", "base");
    let dependencies = r#","dependencies":[{"imageName":"base"}]"#;
    let top = import(&fixture, "top", dependencies, "top");
    let base_tree = fixture.store.render(&base).unwrap();
    let top_tree = fixture.store.render(&top).unwrap();
    let used = top_tree.id.clone();
    let error = fixture
        .store
        .remove(&base, &|tree| Ok(*tree == used))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("image base ({base}): a pod uses it")
    );
    assert!(base_tree.rootfs.exists());

    fixture.store.remove(&top, &|_| Ok(false)).unwrap();
    assert!(base_tree.rootfs.exists() && !top_tree.rootfs.exists());
    assert!(fixture.store.resolve("top").is_err());
    fixture.store.remove(&base, &|_| Ok(false)).unwrap();
    fixture.assert_empty();
    let blobs = fixture.path("data/store/blobs/sha256");
    assert!(fs::read_dir(blobs).unwrap().next().is_none());
    let error = fixture.store.remove(&base, &|_| Ok(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("image {base}: is not in the store")
    );
}

#[test]
fn blobs_that_changed_on_disk_are_noticed() {
    let fixture = Fixture::new();
    let id = import(&fixture, "app", "", "content");
    let blob = fs::read_dir(fixture.path("data/store/blobs/sha256"))
        .unwrap()
        .next()
        .unwrap();
    let changed = archive::aci(
        &manifest("app", ""),
        Archive::rootfs().file("file", "changed"),
    );
    fs::write(blob.unwrap().path(), changed).unwrap();
    let error = format!("{:#}", fixture.store.render(&id).unwrap_err());
    assert!(error.contains(": digest is sha512:"), "{error}");
    let trees = fixture.path("data/store/trees");
    assert!(fs::read_dir(trees).unwrap().next().is_none());
}

#[test]
fn what_the_dead_left_is_removed() {
    let Fixture { dir, store } = Fixture::new();
    let data = dir.path().join("data");
    let left = data.join("store/tmp/new-abc");
    fs::create_dir_all(left.join("rootfs/x")).unwrap();
    // Not while somebody may be at work on it.
    let other = Store::open(&data).unwrap();
    assert!(left.exists());
    drop((store, other));
    Store::open(&data).unwrap();
    assert!(!left.exists());
}

#[test]
fn nobody_else_reaches_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let mode = |path: &str| fixture.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("data/store"), 0o700);
}
