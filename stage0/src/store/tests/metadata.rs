//! Owners, modes, times, attributes, devices and holes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FileType, makedev};
use tar::EntryType;

use super::archive::{Archive, manifest};
use super::{Fixture, is_root};

#[test]
fn modes_and_times_are_kept() {
    let fixture = Fixture::new();
    let entries = Archive::rootfs()
        .dir("dir", 0o1777)
        .file_mode("dir/setuid", 0o6755, "x")
        .pax(&[("mtime", b"1234.5")])
        .file("dir/exact", "")
        .symlink("dir/link", "setuid");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let root = fixture.store.render(&id).unwrap().rootfs;
    let stat = |name: &str| root.join(name).symlink_metadata().unwrap();
    assert_eq!(stat("").mode() & 0o7777, 0o755);
    assert_eq!(stat("dir").mode() & 0o7777, 0o1777);
    assert_eq!(stat("dir/setuid").mode() & 0o7777, 0o6755);
    for name in ["", "dir", "dir/setuid", "dir/link"] {
        assert_eq!(stat(name).mtime(), 1_000_000_000, "{name}");
    }
    assert_eq!(
        (stat("dir/exact").mtime(), stat("dir/exact").mtime_nsec()),
        (1234, 500_000_000)
    );
}

#[test]
fn directories_that_no_archive_lists_are_alike_in_every_rendering() {
    let fixture = Fixture::new();
    let entries = Archive::rootfs().file("a/b/file", "x");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let root = fixture.store.render(&id).unwrap().rootfs;
    for name in ["a", "a/b"] {
        let stat = root.join(name).metadata().unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o755, 0), "{name}");
    }
}

#[test]
fn owners_are_kept() {
    if !is_root("owners_are_kept") {
        return;
    }
    let fixture = Fixture::new();
    let mut entries = Archive::rootfs();
    (entries.uid, entries.gid) = (1234, 4321);
    let entries = entries
        .dir("dir", 0o755)
        .file_mode("setuid", 0o4755, "")
        .symlink("link", "setuid")
        .pax(&[("uid", b"3000000000"), ("gid", b"7")])
        .file("large", "");
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let root = fixture.store.render(&id).unwrap().rootfs;
    let owner = |name: &str| {
        let stat = root.join(name).symlink_metadata().unwrap();
        (stat.uid(), stat.gid(), stat.mode() & 0o7777)
    };
    assert_eq!(owner("dir"), (1234, 4321, 0o755));
    assert_eq!(owner("setuid"), (1234, 4321, 0o4755));
    assert_eq!(owner("link"), (1234, 4321, 0o777));
    assert_eq!(owner("large"), (3_000_000_000, 7, 0o644));
}

#[test]
fn attributes_are_kept_except_those_of_the_host() {
    if !is_root("attributes_are_kept_except_those_of_the_host") {
        return;
    }
    let fixture = Fixture::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let entries = Archive::rootfs()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability[..]),
            ("SCHILY.xattr.user.comment", b"text"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("bin/ping", "x");
    let base = fixture.import_aci(&manifest("base", ""), entries).unwrap();
    // Through a white list, the tree is copied, too.
    let fields = r#","dependencies":[{"imageName":"base"}],"pathWhitelist":["/bin/ping"]"#;
    fixture
        .import_aci(&manifest("middle", fields), Archive::rootfs())
        .unwrap();
    let fields = r#","dependencies":[{"imageName":"middle"}]"#;
    let top = fixture
        .import_aci(&manifest("top", fields), Archive::rootfs())
        .unwrap();
    for id in [base, top] {
        let file = fixture.store.render(&id).unwrap().rootfs.join("bin/ping");
        let get = |name: &str| {
            let mut value = vec![0; 100];
            let length = rustix::fs::getxattr(&file, name, &mut value[..]).ok()?;
            value.truncate(length);
            Some(value)
        };
        assert_eq!(get("security.capability").as_deref(), Some(&capability[..]));
        assert_eq!(get("user.comment").as_deref(), Some(&b"text"[..]));
        assert_eq!(get("trusted.overlay.opaque"), None);
    }
}

#[test]
fn devices_and_fifos_are_made() {
    if !is_root("devices_and_fifos_are_made") {
        return;
    }
    let fixture = Fixture::new();
    let entries = Archive::rootfs()
        .node("rootfs/null", EntryType::Char, 1, 3)
        .node("rootfs/disk", EntryType::Block, 8, 1)
        .node("rootfs/fifo", EntryType::Fifo, 0, 0);
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let root = fixture.store.render(&id).unwrap().rootfs;
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(8, 1)),
        ("fifo", FileType::Fifo, 0),
    ] {
        let stat = root.join(name).symlink_metadata().unwrap();
        assert_eq!(FileType::from_raw_mode(stat.mode()), kind, "{name}");
        assert_eq!(
            (stat.rdev(), stat.mode() & 0o7777),
            (device, 0o666),
            "{name}"
        );
    }
}

#[test]
fn holes_stay_holes() {
    let fixture = Fixture::new();
    let mut map = b"1\n8388608\n4\n".to_vec();
    map.resize(512, 0);
    map.extend(b"data");
    let entries = Archive::rootfs()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"rootfs/sparse"),
            ("GNU.sparse.realsize", b"16777216"),
        ])
        .raw(
            "rootfs/GNUSparseFile.1/sparse",
            EntryType::Regular,
            0o644,
            "",
            &map,
        )
        .raw(
            "rootfs/zeros",
            EntryType::Regular,
            0o644,
            "",
            &vec![0; 1 << 20],
        );
    let id = fixture.import_aci(&manifest("app", ""), entries).unwrap();
    let root = fixture.store.render(&id).unwrap().rootfs;
    let content = fs::read(root.join("sparse")).unwrap();
    assert_eq!(content.len(), 1 << 24);
    assert_eq!(&content[1 << 23..(1 << 23) + 4], b"data");
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 4);
    assert!(root.join("sparse").metadata().unwrap().blocks() < 1000);
    assert!(root.join("zeros").metadata().unwrap().blocks() < 100);
    assert!(!root.join("GNUSparseFile.1").exists());
}
