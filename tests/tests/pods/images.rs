//! Importing images of every kind.

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

pub(crate) fn path_of(fixture: &Fixture, name: &str) -> String {
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
