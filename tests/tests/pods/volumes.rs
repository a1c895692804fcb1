//! Volumes of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::probe::Outcome;

tests::cases!("volumes": ; both ways:
    of_the_host_is_read_and_written,
    of_the_host_can_be_one_file,
    of_the_host_read_only,
    of_the_host_brings_what_is_mounted_in_it,
    of_the_host_not_recursive,
    read_only_holds_for_what_is_mounted_in_it,
    mount_point_can_ask_for_read_only,
    missing_source_is_an_error,
    names_with_awkward_characters
    ; with users:
    of_the_host_read_only,
    of_the_host_not_recursive,
    read_only_holds_for_what_is_mounted_in_it,
    names_with_awkward_characters,
);

pub(crate) fn host_volume(fixture: &Fixture, name: &str, more: &str) -> Result<String> {
    Ok(format!(
        "--volume={name},kind=host,source={}{more}",
        fixture.dir(name)?.display()
    ))
}

fn read_only() -> Outcome {
    Outcome::Error(Errno::ROFS.raw_os_error())
}

fn of_the_host_is_read_and_written() -> Result<()> {
    with(|fixture| {
        let volume = host_volume(fixture, "data", "")?;
        fs::write(fixture.path("data/from-host"), "from host")?;
        let app = App::probe(
            "a",
            [
                "do",
                "see",
                "--out",
                "/out/a.json",
                "--read",
                "/data/from-host",
                "+",
                "write",
                "/data/from-app",
                "hi",
            ],
        );
        fixture
            .pod([app.option("--mount=volume=data,target=/data")])
            .option(volume)
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.text("/data/from-host")?, "from host");
        assert_eq!(fs::read_to_string(fixture.path("data/from-app"))?, "hi");
        Ok(())
    })
}

fn of_the_host_can_be_one_file() -> Result<()> {
    with(|fixture| {
        fs::write(fixture.path("config"), "setting")?;
        let volume = format!(
            "--volume=config,kind=host,source={},readOnly=true",
            fixture.path("config").display()
        );
        let app = App::seeing("a", ["--read", "/etc/app.conf", "--write", "/etc/app.conf"]);
        fixture
            .pod([app.option("--mount=volume=config,target=/etc/app.conf")])
            .option(volume)
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.text("/etc/app.conf")?, "setting");
        assert_eq!(seen.look("write", "/etc/app.conf")?, &read_only());
        Ok(())
    })
}

fn of_the_host_read_only() -> Result<()> {
    with(|fixture| {
        let app =
            App::seeing("a", ["--write", "/data/x"]).option("--mount=volume=data,target=/data");
        fixture
            .pod([app])
            .option(host_volume(fixture, "data", ",readOnly=true")?)
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.look("write", "/data/x")?, &read_only());
        Ok(())
    })
}

/// A tmpfs with a file `inner` on a directory; gone with the value.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn on(path: &'a Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"mode=0777")
            .context("mount a tmpfs")?;
        let mounted = Self(path);
        fs::write(path.join("inner"), "inner")?;
        Ok(mounted)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

fn of_the_host_brings_what_is_mounted_in_it() -> Result<()> {
    with(|fixture| {
        let sub = fixture.path("data/sub");
        let _mounted = Mounted::on(&sub)?;
        for more in ["", ",recursive=true"] {
            let app = App::seeing("a", ["--read", "/data/sub/inner"])
                .option("--mount=volume=data,target=/data");
            fixture
                .pod([app])
                .option(host_volume(fixture, "data", more)?)
                .run()?
                .expect(0)?;
            assert_eq!(fixture.seen("a")?.text("/data/sub/inner")?, "inner");
        }
        Ok(())
    })
}

fn of_the_host_not_recursive() -> Result<()> {
    with(|fixture| {
        let sub = fixture.path("data/sub");
        let _mounted = Mounted::on(&sub)?;
        let app =
            App::seeing("a", ["--list", "/data/sub"]).option("--mount=volume=data,target=/data");
        fixture
            .pod([app])
            .option(host_volume(fixture, "data", ",recursive=false")?)
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.names("/data/sub")?, [""; 0]);
        Ok(())
    })
}

fn read_only_holds_for_what_is_mounted_in_it() -> Result<()> {
    with(|fixture| {
        let sub = fixture.path("data/sub");
        let _mounted = Mounted::on(&sub)?;
        let app =
            App::seeing("a", ["--write", "/data/sub/x"]).option("--mount=volume=data,target=/data");
        let volume = host_volume(fixture, "data", ",readOnly=true,recursive=true")?;
        fixture.pod([app]).option(volume).run()?.expect(0)?;
        assert_eq!(
            fixture.seen("a")?.look("write", "/data/sub/x")?,
            &read_only()
        );
        assert!(!sub.join("x").exists());
        fs::write(sub.join("by-host"), "the host's own mount stays writable")?;
        Ok(())
    })
}

fn mount_point_can_ask_for_read_only() -> Result<()> {
    with(|fixture| {
        let points = json!([
            { "name": "data", "path": "/ro", "readOnly": true },
            { "name": "other", "path": "/rw", "readOnly": false },
        ]);
        let app = App::seeing("a", ["--write", "/ro/x", "--write", "/rw/x"])
            .change(|image| image.app("mountPoints", points));
        let pod = fixture
            .pod([app])
            .option(host_volume(fixture, "data", "")?)
            .option(host_volume(fixture, "other", "")?);
        pod.run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.look("write", "/ro/x")?, &read_only());
        assert_eq!(seen.look("write", "/rw/x")?, &Outcome::Writable);
        Ok(())
    })
}

fn missing_source_is_an_error() -> Result<()> {
    with(|fixture| {
        let source = fixture.path("not-there");
        let app = App::seeing("a", [] as [&str; 0]).option("--mount=volume=data,target=/data");
        let pod = fixture.pod([app]).option(format!(
            "--volume=data,kind=host,source={}",
            source.display()
        ));
        pod.run()?
            .expect_refusal(&["not-there", "No such file or directory"])?;
        assert!(!source.exists());
        assert!(fixture.seen("a").is_err(), "the app ran all the same");
        Ok(())
    })
}

fn names_with_awkward_characters() -> Result<()> {
    with(|fixture| {
        let source = fixture.dir("a b%n:c\"d'e\\f$g é")?;
        fs::write(source.join("x"), "awkward")?;
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755))?;
        let target = "/t %n:\"'\\$PATH é";
        let app = App::seeing("a", ["--read", &format!("{target}/x")])
            .option(format!("--mount=volume=data,target={target}"));
        let pod = fixture.pod([app]).option(format!(
            "--volume=data,kind=host,source={}",
            source.display()
        ));
        pod.run()?.expect(0)?;
        assert_eq!(fixture.seen("a")?.text(&format!("{target}/x"))?, "awkward");
        Ok(())
    })
}
