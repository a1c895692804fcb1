//! Apps that come and go in pods with user namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tests::fixture::{App, Fixture, with};
use tests::image::character_device;
use tests::process::BOUND;

use crate::enter_likeness::enter;
use crate::users_roots::null_device;

tests::cases!("users_apps":
    come_and_go_with_overlays,
    come_and_go_with_plain_roots,
    that_the_pod_was_run_with_go,
    a_device_is_added,
);

/// What the pod has of an app, as paths.
fn remains(dir: &Path, app: &str) -> Result<Vec<PathBuf>> {
    let root = dir.join("stage1/rootfs");
    let folders = ["env", "status", "spec", "main", "seccomp", "volumes"];
    let folders = folders.map(|folder| root.join("rkt").join(folder));
    let more = [dir.join("sharedVolumes"), root.join("opt/stage2")];
    let mut found = Vec::new();
    for folder in folders.iter().chain(&more).filter(|folder| folder.exists()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == app || name.starts_with(&format!("{app}.")) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn app() -> App {
    let steps = "do write /own/x x + write /out/up x + until-term + exit 0";
    App::probe("a", steps.split(' ').map(str::to_owned))
        .option("--user=alice")
        .option("--group=2345")
        .option("--mnt-volume=name=own,target=/own,kind=empty,uid=1234,gid=2345")
}

fn come_and_go(options: &[&str]) -> Result<()> {
    with(|fixture| {
        let mut all = vec!["--private-users"];
        all.extend(options);
        let sandbox = fixture.sandbox(&all)?;
        let dir = fixture.pod_dir(&sandbox.uuid)?;
        let text = fs::read_to_string(dir.join("private-users-prepared"))?;
        let shift: u32 = text.split(':').next().unwrap_or_default().parse()?;
        for round in 0..3 {
            let context = || format!("round {round}");
            sandbox.run(&app()).with_context(context)?;
            tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
            let seen = enter(fixture, &sandbox.uuid, "a")?;
            ensure!(seen.uids == [1234; 4] && seen.gids == [2345; 4], "{seen:?}");
            let volume = dir.join("sharedVolumes/a.own");
            for path in [fixture.out("up"), volume.clone(), volume.join("x")] {
                let stat = fs::metadata(&path)?;
                let expected = (shift + 1234, shift + 2345);
                assert_eq!((stat.uid(), stat.gid()), expected, "{}", path.display());
            }
            fs::remove_file(fixture.out("up"))?;
            sandbox.app("stop", "a", &[])?.expect(0)?;
            // One that has stopped is entered, too, and started again.
            assert_eq!(enter(fixture, &sandbox.uuid, "a")?.uids, [1234; 4]);
            sandbox.app("start", "a", &[])?.expect(0)?;
            tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
            fs::remove_file(fixture.out("up"))?;
            sandbox.app("rm", "a", &["--force"])?.expect(0)?;
            assert_eq!(remains(&dir, "a")?, [] as [PathBuf; 0], "{}", context());
        }
        sandbox.stop()?.expect(0)?;
        Ok(())
    })
}

fn come_and_go_with_overlays() -> Result<()> {
    come_and_go(&[])
}

fn come_and_go_with_plain_roots() -> Result<()> {
    come_and_go(&["--no-overlay"])
}

fn that_the_pod_was_run_with_go() -> Result<()> {
    with(|fixture| {
        let volume = format!(
            "--volume=data,kind=host,source={}",
            fixture.dir("data")?.display()
        );
        let pod = fixture.pod([app().option("--mount=volume=data,target=/data")]);
        let pod = pod
            .option(volume)
            .option("--private-users")
            .option("--mutable");
        let running = pod.start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        fixture.text(["app", "rm", &uuid, "--app=a", "--force"])?;
        fs::remove_file(fixture.out("up"))?;
        again(fixture, &uuid)?;
        fixture.text(["stop", &uuid])?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// Adds the app again, with the volumes that the pod has still.
fn again(fixture: &Fixture, uuid: &str) -> Result<()> {
    let image = fixture.import(&tests::fixture::probe_image("a"))?;
    let words = [
        "app",
        "add",
        uuid,
        &image,
        "--name=a",
        "--mount=volume=out,target=/out",
        "--mount=volume=data,target=/data",
        "--",
        "do",
        "write",
        "/out/up",
        "x",
        "+",
        "hang",
    ];
    fixture.text(words)?;
    fixture.text(["app", "start", uuid, "--app=a"])?;
    tests::wait::for_path(&fixture.out("up"), Some(BOUND))
}

/// A device that is a volume can be used; one that lies in the image or in a volume can't.
fn a_device_is_added() -> Result<()> {
    with(|fixture| {
        let volume = fixture.dir("volume")?;
        null_device(&volume.join("null"))?;
        for option in ["--no-overlay=false", "--no-overlay"] {
            let sandbox = fixture.sandbox(&["--private-users", option])?;
            let words = "do mknod /zero c 1 5 + mknod /volume/null c 1 3 + mknod /null c 1 3";
            let app = App::probe("a", words.split(' ').map(str::to_owned))
                .change(|image| image.with([character_device("null", 0o666, 1, 3)]))
                .option("--mnt-volume=name=zero,kind=host,source=/dev/zero,target=/zero")
                .option(format!(
                    "--mnt-volume=name=volume,kind=host,source={},target=/volume",
                    volume.display()
                ));
            sandbox.run(&app)?;
            assert_eq!(sandbox.ended("a")?["status"], 0);
            let finished = sandbox.stop()?.expect(0)?;
            for found in [
                " /zero: 17, opened",
                " /volume/null: 17, 13",
                " /null: 17, 13",
            ] {
                ensure!(finished.stdout.contains(found), "no{found}: {finished}");
            }
        }
        Ok(())
    })
}
