//! Additions that fail: each step in turn, for causes as they come. The pod is as it was, byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use tests::fixture::{App, Sandbox, probe_image, with};
use tests::footprint::Footprint;
use tests::image::Image;
use tests::process::run;

tests::cases!("app_add":
    a_failure_at_any_step_undoes_all,
    a_failure_undoes_all_without_overlay,
    a_damaged_image_is_no_app,
    refusals_say_why,
    immutable_pods_are_not_changed,
);

/// Something that stands in the way of one step.
enum Obstacle {
    /// A directory of the pod that nothing can be written to.
    ReadOnly(&'static str),
    /// A file or directory of the pod that nothing can be renamed to.
    Pinned(&'static str),
    /// A directory in the place of a file to be made.
    Directory(&'static str),
    /// A directory of the pod on a file system that is full.
    Full(&'static str),
    /// An entrypoint that is killed.
    Dies(&'static str),
    /// An option that stage1 finds wrong.
    Option(&'static str),
}

impl Obstacle {
    /// Puts it into the pod, does something, and takes it away.
    fn meet(&self, dir: &Path, act: impl FnOnce() -> Result<()>) -> Result<()> {
        match self {
            Self::ReadOnly(name) | Self::Pinned(name) => {
                let path = dir.join(name);
                mount_bind(&path, &path).with_context(|| format!("pin {name}"))?;
                let read_only = MountFlags::BIND | MountFlags::RDONLY;
                let outcome = match self {
                    Self::ReadOnly(_) => mount_remount(&path, read_only, c"").map_err(Into::into),
                    _ => Ok(()),
                };
                let outcome = outcome.and_then(|()| act());
                unmount(&path, UnmountFlags::DETACH).with_context(|| format!("unpin {name}"))?;
                outcome
            }
            Self::Directory(name) => {
                fs::create_dir_all(dir.join(name).join("kept"))?;
                let outcome = act();
                fs::remove_dir(dir.join(name).join("kept")).context("it was not kept")?;
                fs::remove_dir(dir.join(name))?;
                outcome
            }
            Self::Full(name) => {
                let path = dir.join(name);
                mount(
                    "stage1-test",
                    &path,
                    "tmpfs",
                    MountFlags::empty(),
                    c"size=4096",
                )
                .with_context(|| format!("mount a small file system at {name}"))?;
                let outcome = fs::write(path.join(".filler"), [0; 4096]).map_err(Into::into);
                let outcome = outcome.and_then(|()| act());
                unmount(&path, UnmountFlags::DETACH).with_context(|| format!("unmount {name}"))?;
                outcome
            }
            Self::Dies(name) => {
                let (path, aside) = (dir.join(name), dir.join(name).with_extension("aside"));
                fs::rename(&path, &aside)?;
                let outcome = write_dying(&path).and_then(|()| act());
                fs::rename(&aside, &path)?;
                outcome
            }
            Self::Option(_) => act(),
        }
    }
}

/// Writes a program that kills itself. Another process does it: a child that some other test starts would have a copy of
/// the descriptor for an instant, and what is open for writing cannot be executed.
fn write_dying(path: &Path) -> Result<()> {
    let mut shell = Command::new("sh");
    let script = r#"printf '#!/bin/sh\nkill -KILL $$\n' >"$0" && chmod 755 "$0""#;
    shell.args(["-c", script]).arg(path);
    run(shell)?.expect(0)?;
    Ok(())
}

/// Each step of an addition with what makes it fail, and a word of the reason.
const STEPS: [(Obstacle, &str); 11] = [
    (
        Obstacle::Full("stage1/rootfs/rkt/env"),
        "No space left on device",
    ),
    (
        Obstacle::Full("stage1/rootfs/rkt/spec"),
        "No space left on device",
    ),
    (Obstacle::Dies("stage1/rootfs/app-add"), "signal: 9"),
    (Obstacle::ReadOnly("appsinfo"), "Read-only file system"),
    (
        Obstacle::Directory("stage1/rootfs/opt/stage2/new"),
        "File exists",
    ),
    (
        Obstacle::Directory("stage1/rootfs/rkt/env/new"),
        "directory",
    ),
    (Obstacle::Pinned("pod"), "busy"),
    (
        Obstacle::Directory("stage1/rootfs/rkt/status/new-created"),
        "directory",
    ),
    (
        Obstacle::Option("--user=nobody-of-this-name"),
        "nobody-of-this-name",
    ),
    (
        Obstacle::Option("--mnt-volume=name=v,kind=host,source=/not/there,target=/v"),
        "/not/there",
    ),
    (
        Obstacle::Directory("stage1/rootfs/etc/systemd/system/app-new.service"),
        "app-new.service",
    ),
];

fn add_must_fail(pod: &Sandbox<'_>, obstacle: &Obstacle, reason: &str) -> Result<()> {
    obstacle.meet(&pod.dir(), || {
        let mut app = App::probe("new", ["do", "hang"]);
        if let Obstacle::Option(option) = obstacle {
            app = app.option(*option);
        }
        let before = Footprint::of(&pod.dir())?;
        let finished = pod.add(&app)?;
        let context = format!("{finished}");
        finished.expect_refusal(&["add app new to pod", reason])?;
        before.expect_in(&pod.dir()).context(context)
    })
}

fn every_step(pod: &Sandbox<'_>) -> Result<()> {
    // Makes folders that stay.
    pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
    for (obstacle, reason) in &STEPS {
        add_must_fail(pod, obstacle, reason)?;
    }
    // With nothing in the way all is well, and comes off again.
    let before = Footprint::of(&pod.dir())?;
    pod.run(&App::probe("new", ["do", "print", "hello"]))?;
    pod.ended("new")?;
    pod.app("rm", "new", &[])?.expect(0)?;
    before.expect_in(&pod.dir())
}

fn a_failure_at_any_step_undoes_all() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        // The layers of this app are beside those of the others.
        pod.add(&App::probe("other", ["do", "hang"]))?.expect(0)?;
        let layers = fs::read_dir(pod.dir().join("overlay"))?;
        let names: Vec<_> = layers.flatten().map(|entry| entry.file_name()).collect();
        let stage1 = fs::read_to_string(pod.dir().join("stage1TreeStoreID"))?;
        ensure!(
            names.iter().any(|name| *name != stage1.trim()),
            "no layers: {names:?}"
        );
        add_must_fail(
            &pod,
            &Obstacle::ReadOnly("overlay"),
            "Read-only file system",
        )?;
        every_step(&pod)?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

fn a_failure_undoes_all_without_overlay() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox(&["--no-overlay"])?;
        every_step(&pod)?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// Until its archive is whole again.
fn a_damaged_image_is_no_app() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        // Makes folders that stay.
        pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
        let blobs = || -> Result<BTreeSet<PathBuf>> {
            let mut found = BTreeSet::new();
            for algorithm in fs::read_dir(fixture.data().join("store/blobs"))? {
                let entries = fs::read_dir(algorithm?.path())?.flatten();
                found.extend(entries.map(|entry| entry.path()));
            }
            Ok(found)
        };
        let others = blobs()?;
        let app = App::probe("new", ["do", "hang"]).image(probe_image("damaged"));
        // With the words the image is imported.
        let words = pod.adding(&app)?;
        let all = blobs()?;
        let blob = all.difference(&others).next().context("no new blob")?;
        let whole = fs::read(blob)?;
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(blob, damaged)?;
        let before = Footprint::of(&pod.dir())?;
        let finished = fixture.stage0(&words)?;
        finished.expect_refusal(&["add app new to pod", "render"])?;
        before.expect_in(&pod.dir())?;
        fs::write(blob, whole)?;
        fixture.text(&words)?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

fn refusals_say_why() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        let uuid = pod.uuid.as_str();
        let app = App::probe("a", ["do", "hang"]);
        pod.add(&app)?.expect(0)?;
        let before = Footprint::of(&pod.dir())?;
        pod.add(&app)?
            .expect_refusal(&["add app a to pod", "there is one of this name already"])?;
        let bare = probe_image("bare").without_app();
        pod.add(&App::probe("bare", [] as [&str; 0]).image(bare))?
            .expect_refusal(&["example.com/bare", "does not say what to run", "--exec"])?;
        for verb in ["start", "stop", "rm"] {
            pod.app(verb, "nobody", &[])?.expect_refusal(&[
                verb_of(verb),
                "app nobody",
                "there is no such app",
            ])?;
        }
        pod.app("status", "nobody", &[])?
            .expect_refusal(&["has no app nobody"])?;
        fixture
            .stage0(["app", "add", uuid])?
            .expect_refusal(&["no image is given"])?;
        fixture
            .stage0(["app", "add", uuid, "image-of-no-one"])?
            .expect_refusal(&["image-of-no-one"])?;
        before.expect_in(&pod.dir())?;
        let uuid = uuid.to_owned();
        pod.stop()?.expect(0)?;
        let words = ["app", "start", &uuid, "--app=a"];
        fixture
            .stage0(words)?
            .expect_refusal(&[&uuid, "it is exited, not running"])?;
        Ok(())
    })
}

/// The word for a command in its errors.
fn verb_of(command: &str) -> &str {
    match command {
        "rm" => "remove",
        other => other,
    }
}

fn immutable_pods_are_not_changed() -> Result<()> {
    with(|fixture| {
        let (uuid, pod) = super::common::start_server(fixture)?;
        let image: Image = probe_image("more");
        let id = fixture.import(&image)?;
        fixture
            .stage0(["app", "add", &uuid, &id, "--name=more"])?
            .expect_refusal(&[&uuid, "it is immutable", "app sandbox"])?;
        for verb in ["start", "stop", "rm"] {
            fixture
                .stage0(["app", verb, &uuid, "--app=server"])?
                .expect_refusal(&[&uuid, "it is immutable"])?;
        }
        fixture.text(["stop", &uuid])?;
        pod.finish()?.expect(0)?;
        Ok(())
    })
}
