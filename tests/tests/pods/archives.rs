//! Archives whose entries aim outside the image.

use std::fs;

use anyhow::Result;
use tests::fixture::{Fixture, probe_image, with};
use tests::image::{Entry, Packing, dir, file, hardlink, symlink};

/// A prefix that climbs out of any root that is only a directory.
const UP: &str = "/../../../../../../../../../..";

tests::cases!("archives":
    archive_writes_nothing_outside,
    layer_writes_nothing_outside,
);

/// Entries that try to make a file `victim/KIND` outside.
fn escapes(outside: &str) -> Vec<(&'static str, Vec<Entry>)> {
    vec![
        (
            "dots",
            vec![file(
                "../../../../../../../../../../../../tmp/stage1-test-dots",
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
    name: &str,
    fixture: &Fixture,
    write: impl Fn(&tests::image::Image, &std::path::Path) -> Result<()>,
) -> Result<()> {
    let outside =
        std::path::PathBuf::from("/tmp").join(format!("st1-{}-{name}", std::process::id()));
    fs::create_dir_all(&outside)?;
    fs::write(outside.join("victim"), "untouched")?;
    let mut result = Ok(());
    for (kind, entries) in escapes(&outside.display().to_string()) {
        let path = fixture.path(&format!("{kind}.image"));
        write(&probe_image(kind).with(entries), &path)?;
        fixture.stage0(["image".as_ref(), "import".as_ref(), path.as_os_str()])?;
        let names: Vec<_> = fs::read_dir(&outside)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        let victim = fs::read_to_string(outside.join("victim"))?;
        if names != ["victim"]
            || victim != "untouched"
            || std::path::Path::new("/tmp/stage1-test-dots").exists()
        {
            result = Err(anyhow::anyhow!(
                "{kind}: wrote outside: {names:?}, victim {victim:?}"
            ));
            break;
        }
    }
    let _ = fs::remove_file("/tmp/stage1-test-dots");
    fs::remove_dir_all(&outside)?;
    result
}

fn archive_writes_nothing_outside() -> Result<()> {
    with(|fixture| import_all("aci", fixture, |image, path| image.aci(path, Packing::Tar)))
}

fn layer_writes_nothing_outside() -> Result<()> {
    with(|fixture| {
        import_all("docker", fixture, |image, path| {
            image.docker_archive(path, "latest")
        })
    })
}
