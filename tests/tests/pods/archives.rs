//! Archives whose entries aim outside the image.

use std::fs;

use anyhow::{Result, ensure};
use tests::fixture::{Fixture, probe_image, with};
use tests::image::{Entry, Packing, dir, file, hardlink, symlink};

/// A prefix that climbs out of any root that is only a directory.
const UP: &str = "/../../../../../../../../../..";

tests::cases!("archives":
    archive_writes_nothing_outside,
    layer_writes_nothing_outside,
);

/// Entries that try to make a file `KIND` outside, or to change the one that is there.
fn escapes(outside: &str) -> Vec<(&'static str, Vec<Entry>)> {
    vec![
        (
            "dots",
            vec![file(
                &format!("{}{outside}/dots", &UP[1..]),
                0o644,
                "escaped",
            )],
        ),
        (
            "absolute",
            vec![file(&format!("{outside}/absolute"), 0o644, "escaped")],
        ),
        (
            "symlink",
            vec![
                symlink("evil", outside),
                file("evil/symlink", 0o644, "escaped"),
            ],
        ),
        (
            "relative-symlink",
            vec![
                symlink("evil", &format!("{}{outside}", &UP[1..])),
                file("evil/relative-symlink", 0o644, "escaped"),
            ],
        ),
        (
            "replaced-dir",
            vec![
                dir("evil/", 0o755),
                symlink("evil", outside),
                file("evil/replaced-dir", 0o644, "escaped"),
            ],
        ),
        (
            "hardlink",
            vec![
                hardlink("evil", &format!("{outside}/victim")),
                file("evil", 0o644, "escaped"),
            ],
        ),
        (
            "file-over-symlink",
            vec![
                symlink("evil", &format!("{outside}/victim")),
                file("evil", 0o644, "escaped"),
            ],
        ),
    ]
}

/// Imports each (refused or not) and looks at the directory they aim at.
fn import_all(
    fixture: &Fixture,
    write: impl Fn(&tests::image::Image, &std::path::Path) -> Result<()>,
) -> Result<()> {
    // A short path: a tar entry's name has its bounds.
    let outside = tempfile::Builder::new().prefix("st1-").tempdir()?;
    let outside = outside.path();
    fs::write(outside.join("victim"), "untouched")?;
    for (kind, entries) in escapes(&outside.display().to_string()) {
        let path = fixture.path(&format!("{kind}.image"));
        write(&probe_image(kind).with(entries), &path)?;
        fixture.stage0(["image".as_ref(), "import".as_ref(), path.as_os_str()])?;
        let names: Vec<_> = fs::read_dir(outside)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        let victim = fs::read_to_string(outside.join("victim"))?;
        ensure!(
            names == ["victim"] && victim == "untouched",
            "{kind}: wrote outside: {names:?}, victim {victim:?}"
        );
    }
    Ok(())
}

fn archive_writes_nothing_outside() -> Result<()> {
    with(|fixture| import_all(fixture, |image, path| image.aci(path, Packing::Tar)))
}

fn layer_writes_nothing_outside() -> Result<()> {
    with(|fixture| import_all(fixture, |image, path| image.docker_archive(path, "latest")))
}
