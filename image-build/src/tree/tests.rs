use super::*;

fn paths(tree: &Tree) -> Vec<(&str, u32)> {
    tree.entries()
        .map(|(path, entry)| (path, entry.mode))
        .collect()
}

#[test]
fn parents_come_before_their_children() {
    let mut tree = Tree::default();
    tree.insert_program("usr/bin/x", vec![1], Origin::Project);
    tree.insert_file("usr/a-file", vec![1, 2], Origin::Project);
    assert_eq!(
        paths(&tree),
        [
            ("usr", 0o755),
            ("usr/a-file", 0o644),
            ("usr/bin", 0o755),
            ("usr/bin/x", 0o755)
        ]
    );
    assert_eq!(tree.size(), 3);
}

#[test]
fn the_static_tree_keeps_links_and_only_the_executable_bit() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("etc/deep")).unwrap();
    fs::write(at("etc/deep/conf"), "x").unwrap();
    fs::set_permissions(at("etc/deep/conf"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("etc/run"), "x").unwrap();
    fs::set_permissions(at("etc/run"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("etc", at("link")).unwrap();
    fs::write(at(FOLDERS), "# comment\n1777 tmp\n700 etc/deep\n").unwrap();
    fs::write(at(manifest::TEMPLATE), "{}").unwrap();

    let mut tree = Tree::default();
    tree.add_static(root.path()).unwrap();
    let expected = [
        ("etc", 0o755),
        ("etc/deep", 0o700),
        ("etc/deep/conf", 0o644),
        ("etc/run", 0o755),
        ("link", 0o777),
        ("tmp", 0o1777),
    ];
    assert_eq!(paths(&tree), expected);
}

#[test]
fn a_bad_line_in_the_list_of_folders_is_shown() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(FOLDERS), "tmp\n").unwrap();
    let error = Tree::default()
        .add_static(root.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("\"tmp\" is not a mode and a path"),
        "{error}"
    );
}

#[test]
fn an_entrypoint_that_needs_a_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy("/bin/sh", folder.path().join("init")).unwrap();
    let error = Tree::default()
        .add_entrypoints(folder.path())
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("it is not statically linked"), "{error}");
}
