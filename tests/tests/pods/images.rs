//! Importing images of every kind, and the store.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{Fixture, probe_image, with};
use tests::image::{Image, Packing, dir, file, symlink};
use tests::probe::{Outcome, Seen};

tests::cases!("images":
    aci_in_every_packing,
    oci_layout,
    oci_layout_by_reference,
    oci_archive,
    docker_archive,
    kind_is_recognised,
    layers_with_whiteouts,
    config_becomes_a_manifest,
    changed_layer_is_refused,
    changed_config_is_refused,
    not_an_image_is_refused,
    missing_file_is_refused,
    list_and_remove,
    same_image_twice_is_one,
    run_by_name,
);

/// Imports, runs the image's own command, and reads the report.
fn import_and_run(fixture: &Fixture, source: &str) -> Result<Seen> {
    let id = fixture.text(["image", "import", source])?;
    run_id(fixture, &id)
}

fn run_id(fixture: &Fixture, id: &str) -> Result<Seen> {
    let volume = format!(
        "--volume=out,kind=host,source={}",
        fixture.path("out").display()
    );
    let words = [
        "run",
        &volume,
        "--mount=volume=out,target=/out",
        id,
        "--name=a",
        "--",
        "see",
        "--out",
        "/out/a.json",
    ];
    let looks = [
        "--read",
        "/in-first",
        "--read",
        "/in-second",
        "--list",
        "/etc",
        "--list",
        "/opaque",
    ];
    fixture.stage0(words.into_iter().chain(looks))?.expect(0)?;
    fixture.seen("a")
}

fn path_of(fixture: &Fixture, name: &str) -> String {
    fixture.path(name).display().to_string()
}

fn aci_in_every_packing() -> Result<()> {
    with(|fixture| {
        for packing in [Packing::Tar, Packing::Gzip, Packing::Bzip2, Packing::Xz] {
            let path = path_of(fixture, "image.aci");
            probe_image("a").aci(Path::new(&path), packing)?;
            let seen = import_and_run(fixture, &format!("aci:{path}"))?;
            assert_eq!(seen.argv[0], "/probe", "{packing:?}");
        }
        Ok(())
    })
}

fn oci_layout() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "layout");
        probe_image("a").oci(Path::new(&path), "latest")?;
        import_and_run(fixture, &format!("oci:{path}"))?;
        Ok(())
    })
}

fn oci_layout_by_reference() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "layout");
        probe_image("a").oci(Path::new(&path), "v1")?;
        import_and_run(fixture, &format!("oci:{path}:v1"))?;
        let refused = fixture.stage0(["image", "import", &format!("oci:{path}:v2")])?;
        refused.expect_refusal(&["v2"])?;
        Ok(())
    })
}

fn oci_archive() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "image.tar");
        probe_image("a").oci_archive(Path::new(&path), "latest")?;
        import_and_run(fixture, &format!("oci-archive:{path}"))?;
        Ok(())
    })
}

fn docker_archive() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "image.tar");
        probe_image("a").docker_archive(Path::new(&path), "latest")?;
        import_and_run(fixture, &format!("docker-archive:{path}"))?;
        Ok(())
    })
}

fn kind_is_recognised() -> Result<()> {
    with(|fixture| {
        let image = probe_image("a");
        let writers: [fn(&Image, &Path) -> Result<()>; 5] = [
            |image, path| image.aci(path, Packing::Tar),
            |image, path| image.aci(path, Packing::Gzip),
            |image, path| image.oci(path, "latest"),
            |image, path| image.oci_archive(path, "latest"),
            |image, path| image.docker_archive(path, "latest"),
        ];
        for (number, write) in writers.iter().enumerate() {
            let path = path_of(fixture, &format!("unnamed-{number}"));
            write(&image, Path::new(&path))?;
            import_and_run(fixture, &path).with_context(|| format!("the image number {number}"))?;
        }
        Ok(())
    })
}

/// Two layers: the second replaces, adds, removes, and hides all of a directory.
fn layered() -> Image {
    let first = [
        file("in-first", 0o644, "first"),
        file("in-second", 0o644, "to be replaced"),
        file("etc/removed", 0o644, ""),
        dir("etc/removed-dir/", 0o755),
        file("etc/removed-dir/inner", 0o644, ""),
        dir("opaque/", 0o755),
        file("opaque/hidden", 0o644, ""),
    ];
    let second = [
        file("in-second", 0o644, "second"),
        file("etc/.wh.removed", 0o644, ""),
        file("etc/.wh.removed-dir", 0o644, ""),
        dir("opaque/", 0o755),
        file("opaque/.wh..wh..opq", 0o644, ""),
        file("opaque/new", 0o644, ""),
        symlink("link", "in-second"),
    ];
    probe_image("a").with(first).layer(second)
}

fn layers_with_whiteouts() -> Result<()> {
    with(|fixture| {
        let (oci, docker) = (path_of(fixture, "oci"), path_of(fixture, "docker.tar"));
        layered().oci(Path::new(&oci), "latest")?;
        layered().docker_archive(Path::new(&docker), "latest")?;
        for source in [format!("oci:{oci}"), format!("docker-archive:{docker}")] {
            let seen = import_and_run(fixture, &source)?;
            assert_eq!(
                seen.look("read", "/in-first")?,
                &Outcome::Text("first".into())
            );
            assert_eq!(
                seen.look("read", "/in-second")?,
                &Outcome::Text("second".into())
            );
            let etc = seen.names("/etc")?;
            ensure!(
                !etc.iter()
                    .any(|name| name.contains("removed") || name.starts_with(".wh.")),
                "{etc:?}"
            );
            assert_eq!(seen.names("/opaque")?, ["new"]);
        }
        Ok(())
    })
}

fn config_becomes_a_manifest() -> Result<()> {
    with(|fixture| {
        let image = probe_image("a")
            .app("user", json!("alice"))
            .app("group", json!("staff"))
            .app("workingDirectory", json!("/etc"))
            .app(
                "environment",
                json!([{ "name": "FROM_IMAGE", "value": "a=b c" }]),
            )
            .app(
                "ports",
                json!([{ "name": "x", "port": 8080, "protocol": "tcp" }]),
            )
            .app("mountPoints", json!([{ "name": "x", "path": "/var/data" }]));
        let path = path_of(fixture, "image.tar");
        image.oci_archive(Path::new(&path), "latest")?;
        let id = fixture.text(["image", "import", &path])?;
        let manifest: Value =
            serde_json::from_str(&fixture.text(["image", "cat-manifest", &id])?)?;
        assert_eq!(manifest["acKind"], "ImageManifest");
        let app = &manifest["app"];
        assert_eq!(app["exec"], json!(["/probe"]));
        assert_eq!(
            (&app["user"], &app["group"]),
            (&json!("alice"), &json!("staff"))
        );
        assert_eq!(app["workingDirectory"], "/etc");
        let variables = app["environment"].as_array().context("environment")?;
        ensure!(
            variables.contains(&json!({ "name": "FROM_IMAGE", "value": "a=b c" })),
            "{app}"
        );
        let port = &app["ports"][0];
        assert_eq!(
            (&port["name"], &port["port"], &port["protocol"]),
            (&json!("8080-tcp"), &json!(8080), &json!("tcp"))
        );
        assert_eq!(app["mountPoints"][0]["path"], "/var/data");
        let seen = run_id(fixture, &id)?;
        assert_eq!((seen.uids[0], seen.gids[0]), (1234, 3456));
        assert_eq!(seen.cwd.to_str(), Some("/etc"));
        assert_eq!(seen.env("FROM_IMAGE"), Some("a=b c"));
        Ok(())
    })
}

/// Changes a byte in the largest or smallest blob of a layout.
fn damage(layout: &Path, largest: bool) -> Result<String> {
    let mut blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    blobs.sort_by_key(|path| {
        fs::metadata(path)
            .map(|meta| meta.len())
            .unwrap_or_default()
    });
    let blob = if largest { blobs.last() } else { blobs.first() }.context("no blob")?;
    let mut content = fs::read(blob)?;
    let last = content.len() - 2;
    content[last] ^= 1;
    fs::write(blob, content)?;
    Ok(blob
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned())
}

fn changed_blob_is_refused(largest: bool) -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "layout");
        probe_image("a").oci(Path::new(&path), "latest")?;
        let digest = damage(Path::new(&path), largest)?;
        fixture
            .stage0(["image", "import", &path])?
            .expect_refusal(&[&digest[..12], "digest"])?;
        let list: Value =
            serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
        assert_eq!(list, json!([]), "something of it is in the store");
        Ok(())
    })
}

fn changed_layer_is_refused() -> Result<()> {
    changed_blob_is_refused(true)
}

fn changed_config_is_refused() -> Result<()> {
    changed_blob_is_refused(false)
}

fn not_an_image_is_refused() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "text");
        for content in ["", "not an image at all", "\u{1f}\u{8b}broken gzip"] {
            fs::write(&path, content)?;
            fixture
                .stage0(["image", "import", &path])?
                .expect_refusal(&["text"])?;
        }
        Ok(())
    })
}

fn missing_file_is_refused() -> Result<()> {
    with(|fixture| {
        for kind in ["", "aci:", "oci:", "oci-archive:", "docker-archive:"] {
            let source = format!("{kind}{}", path_of(fixture, "nothing"));
            fixture
                .stage0(["image", "import", &source])?
                .expect_refusal(&["nothing", "No such file or directory"])?;
        }
        Ok(())
    })
}

fn list_and_remove() -> Result<()> {
    with(|fixture| {
        let one = fixture.import(&probe_image("one"))?;
        let two = fixture.import(&probe_image("two"))?;
        let list = fixture.text(["image", "list"])?;
        ensure!(
            list.contains("example.com/one") && list.contains("example.com/two"),
            "{list}"
        );
        let listed = |fixture: &Fixture| -> Result<Vec<Value>> {
            let list: Value =
                serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
            Ok(list
                .as_array()
                .context("a list")?
                .iter()
                .map(|image| image["name"].clone())
                .collect())
        };
        assert_eq!(listed(fixture)?.len(), 2);
        let manifest: Value =
            serde_json::from_str(&fixture.text(["image", "cat-manifest", &one])?)?;
        assert_eq!(manifest["name"], "example.com/one");
        fixture.stage0(["image", "rm", &one])?.expect(0)?;
        assert_eq!(listed(fixture)?, [json!("example.com/two")]);
        fixture.stage0(["image", "rm", &one])?.expect(254)?;
        fixture
            .stage0(["image", "cat-manifest", &one])?
            .expect(254)?;
        fixture.stage0(["image", "rm", &two])?.expect(0)?;
        Ok(())
    })
}

fn same_image_twice_is_one() -> Result<()> {
    with(|fixture| {
        let image = probe_image("a");
        assert_eq!(fixture.import(&image)?, fixture.import(&image)?);
        let list: Value =
            serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
        assert_eq!(list.as_array().map(Vec::len), Some(1));
        Ok(())
    })
}

fn run_by_name() -> Result<()> {
    with(|fixture| {
        fixture.import(&probe_image("by-name"))?;
        fixture
            .stage0(["run", "example.com/by-name", "--", "exit", "6"])?
            .expect(6)?;
        fixture
            .stage0(["run", "example.com/unknown"])?
            .expect_refusal(&["example.com/unknown"])?;
        Ok(())
    })
}
