//! Empty volumes, and where volumes are mounted.

use std::fs;

use anyhow::Result;
use rustix::io::Errno;
use serde_json::json;
use tests::fixture::{App, with};
use tests::image::{dir, file, symlink};
use tests::probe::Outcome;

use crate::volumes::host_volume;

tests::cases!("mounts": unknown_volume_is_an_error; both ways:
    empty_has_mode_and_owner,
    empty_is_shared_by_the_apps,
    mount_points_find_their_volume_by_name,
    mount_point_without_volume_gets_an_empty_one,
    mounts_are_per_app,
    app_volume_of_a_manifest,
    target_is_created,
    target_hides_files_of_the_image,
    target_may_be_below_another,
    volume_on_run,
);

fn empty_has_mode_and_owner() -> Result<()> {
    with(|fixture| {
        let app = App::seeing(
            "a",
            ["--stat", "/plain", "--stat", "/custom", "--list", "/plain"],
        )
        .option("--mount=volume=plain,target=/plain")
        .option("--mount=volume=custom,target=/custom");
        let pod = fixture.pod([app]);
        let pod = pod
            .option("--volume=plain,kind=empty")
            .option("--volume=custom,kind=empty,mode=1770,uid=12,gid=34");
        pod.run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        let (plain, custom) = (seen.stat("/plain")?, seen.stat("/custom")?);
        assert_eq!(
            (plain.kind, plain.mode, plain.uid, plain.gid),
            ('d', 0o755, 0, 0)
        );
        assert_eq!(
            (custom.kind, custom.mode, custom.uid, custom.gid),
            ('d', 0o1770, 12, 34)
        );
        assert_eq!(seen.names("/plain")?, [""; 0]);
        Ok(())
    })
}

fn empty_is_shared_by_the_apps() -> Result<()> {
    with(|fixture| {
        let mount = "--mount=volume=shared,target=";
        let writer = App::probe(
            "writer",
            [
                "do",
                "wait-file",
                "/in/ask",
                "+",
                "write",
                "/in/answer",
                "42",
            ],
        )
        .option(format!("{mount}/in"));
        let reader = App::probe(
            "reader",
            [
                "do",
                "write",
                "/there/ask",
                "?",
                "+",
                "wait-file",
                "/there/answer",
                "+",
                "read",
                "/there/answer",
            ],
        );
        let pod = fixture.pod([writer, reader.option(format!("{mount}/there"))]);
        let finished = pod.option("--volume=shared,kind=empty").run()?.expect(0)?;
        assert_eq!(finished.console("reader"), ["42"]);
        Ok(())
    })
}

fn mount_points_find_their_volume_by_name() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--read", "/srv/x"])
            .change(|image| image.app("mountPoints", json!([{ "name": "data", "path": "/srv" }])));
        let volume = host_volume(fixture, "data", "")?;
        fs::write(fixture.path("data/x"), "by name")?;
        fixture.pod([app]).option(volume).run()?.expect(0)?;
        assert_eq!(fixture.seen("a")?.text("/srv/x")?, "by name");
        Ok(())
    })
}

fn mount_point_without_volume_gets_an_empty_one() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--stat", "/srv", "--write", "/srv/x"])
            .change(|image| image.app("mountPoints", json!([{ "name": "data", "path": "/srv" }])));
        let finished = fixture.pod([app]).run()?.expect(0)?;
        assert_eq!(
            fixture.seen("a")?.look("write", "/srv/x")?,
            &Outcome::Writable
        );
        assert!(
            finished.stderr.contains("warning") && finished.stderr.contains("data"),
            "a warning is due: {finished}"
        );
        Ok(())
    })
}

fn mounts_are_per_app() -> Result<()> {
    with(|fixture| {
        let a = App::seeing("a", ["--read", "/data/x"]).option("--mount=volume=one,target=/data");
        let b = App::seeing("b", ["--read", "/data/x"]).option("--mount=volume=two,target=/data");
        let c = App::seeing("c", ["--stat", "/data"]);
        let pod = fixture
            .pod([a, b, c])
            .option(host_volume(fixture, "one", "")?)
            .option(host_volume(fixture, "two", "")?);
        fs::write(fixture.path("one/x"), "one")?;
        fs::write(fixture.path("two/x"), "two")?;
        pod.run()?.expect(0)?;
        assert_eq!(fixture.seen("a")?.text("/data/x")?, "one");
        assert_eq!(fixture.seen("b")?.text("/data/x")?, "two");
        assert_eq!(
            fixture.seen("c")?.look("stat", "/data")?,
            &Outcome::Error(Errno::NOENT.raw_os_error())
        );
        Ok(())
    })
}

fn app_volume_of_a_manifest() -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&tests::fixture::probe_image("a"))?;
        fs::write(fixture.dir("own")?.join("x"), "own")?;
        fs::write(fixture.dir("other")?.join("x"), "by name")?;
        let host = |name: &str, dir: &str| json!({ "name": name, "kind": "host", "source": fixture.path(dir) });
        let manifest = json!({
            "acVersion": "0.8.11",
            "acKind": "PodManifest",
            "apps": [{
                "name": "a",
                "image": { "id": id },
                "app": {
                    "exec": ["/probe", "see", "--out", "/out/a.json", "--read", "/data/x"],
                    "user": "0",
                    "group": "0",
                },
                "mounts": [
                    { "volume": "data", "path": "/data", "appVolume": host("data", "own") },
                    { "volume": "out", "path": "/out" },
                ],
            }],
            "volumes": [host("data", "other"), host("out", "out")],
        });
        let path = fixture.path("manifest.json");
        fs::write(&path, manifest.to_string())?;
        fixture
            .stage0(["run", &format!("--pod-manifest={}", path.display())])?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.text("/data/x")?, "own");
        Ok(())
    })
}

fn target_is_created() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--stat", "/deep", "--stat", "/deep/down"])
            .option("--mount=volume=data,target=/deep/down/here");
        fixture
            .pod([app])
            .option("--volume=data,kind=empty")
            .run()?
            .expect(0)?;
        for path in ["/deep", "/deep/down"] {
            let seen = fixture.seen("a")?;
            let node = seen.stat(path)?;
            assert_eq!(
                (node.kind, node.mode, node.uid, node.gid),
                ('d', 0o755, 0, 0),
                "{path}"
            );
        }
        Ok(())
    })
}

fn target_hides_files_of_the_image() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--list", "/data"])
            .change(|image| image.with([dir("data/", 0o755), file("data/of-image", 0o644, "")]))
            .option("--mount=volume=data,target=/data");
        fixture
            .pod([app])
            .option("--volume=data,kind=empty")
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.names("/data")?, [""; 0]);
        Ok(())
    })
}

fn target_may_be_below_another() -> Result<()> {
    with(|fixture| {
        // Given in the wrong order: the outer one must not hide the inner one.
        let app = App::seeing("a", ["--read", "/data/sub/x", "--read", "/data/y"])
            .option("--mount=volume=inner,target=/data/sub")
            .option("--mount=volume=outer,target=/data");
        let pod = fixture
            .pod([app])
            .option(host_volume(fixture, "inner", "")?)
            .option(host_volume(fixture, "outer", "")?);
        fs::write(fixture.path("inner/x"), "inner")?;
        fs::write(fixture.path("outer/y"), "outer")?;
        fs::create_dir(fixture.path("outer/sub"))?;
        pod.run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.text("/data/sub/x")?, "inner");
        assert_eq!(seen.text("/data/y")?, "outer");
        Ok(())
    })
}

fn unknown_volume_is_an_error() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", [] as [&str; 0]).option("--mount=volume=nothing,target=/data");
        fixture.pod([app]).run()?.expect_refusal(&["nothing"])?;
        Ok(())
    })
}

fn volume_on_run() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--read", "/run/data/x", "--read", "/var/run/data/x"])
            .change(|image| image.with([dir("var/", 0o755), symlink("var/run", "/run")]))
            .option("--mount=volume=data,target=/var/run/data");
        let volume = host_volume(fixture, "data", "")?;
        fs::write(fixture.path("data/x"), "in run")?;
        fixture.pod([app]).option(volume).run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.text("/run/data/x")?, "in run");
        assert_eq!(seen.text("/var/run/data/x")?, "in run");
        Ok(())
    })
}
