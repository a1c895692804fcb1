//! What fails or is killed half-way, and what comes and goes often, leaves nothing in a running pod.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, Pod};
use tests::process::killed_at;
use tests::units::{self, Units};

use crate::apps::{app, mounts, sandbox, with_sandbox};

tests::cases!("apps_undone":
    each_step_that_fails_is_taken_back,
    what_is_killed_is_finished_by_the_next,
    volumes_of_the_pod_appear_whole,
    a_hundred_times_leaves_nothing,
);

/// All that may be changed by adding an app: files with mode and content, mounts inside and outside, cgroups,
/// units.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    mounts: (Vec<String>, Vec<String>),
    cgroups: Vec<PathBuf>,
    units: Units,
}

impl Snapshot {
    fn of(pod: &Pod) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![pod.dir()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
                let path = entry?.path();
                // The journal grows; and layers are seen where they are mounted.
                if path.ends_with("var/log/journal") || path == pod.dir().join("overlay") {
                    continue;
                }
                let meta = fs::symlink_metadata(&path)?;
                let content = if meta.is_file() {
                    fs::read(&path)?
                } else if meta.is_symlink() {
                    fs::read_link(&path)?.into_os_string().into_encoded_bytes()
                } else {
                    Vec::new()
                };
                if meta.is_dir() {
                    dirs.push(path.clone());
                }
                files.insert(path, (meta.mode(), content));
            }
        }
        let mut cgroups = pod.cgroups()?;
        let mut i = 0;
        while i < cgroups.len() {
            let below = fs::read_dir(&cgroups[i]).into_iter().flatten().flatten();
            let below: Vec<_> = below.map(|e| e.path()).filter(|p| p.is_dir()).collect();
            // systemd takes away what it made for a controller in its own time.
            cgroups.extend(below.into_iter().filter(|path| is_of_app(path)));
            i += 1;
        }
        Ok(Snapshot {
            files,
            mounts: mounts(pod)?,
            cgroups,
            units: units::settled(pod.pid1()?)?,
        })
    }

    /// Fails unless everything is as before, and says what is not.
    fn expect_in(&self, pod: &Pod) -> Result<()> {
        let now = Self::of(pod)?;
        let paths = self.files.keys().chain(now.files.keys());
        let changed: Vec<_> = paths
            .filter(|path| self.files.get(*path) != now.files.get(*path))
            .collect();
        ensure!(changed.is_empty(), "changed: {changed:?}");
        assert_eq!(self.mounts, now.mounts, "mounts outside and inside");
        assert_eq!(self.cgroups, now.cgroups, "cgroups");
        units::expect(pod.pid1()?, &self.units)
    }
}

fn is_of_app(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("app-") || name.starts_with("system") || name == "payload"
}

/// An app with an account, volumes and a filter of its own.
fn demanding() -> AppSpec {
    let mut app = app("a", &[]);
    let filter = json!({ "name": "os/linux/seccomp-remove-set", "value": { "set": ["acct"] } });
    app.app = Some(json!({
        "exec": ["/probe", "do", "until-term", "+", "exit", "0"],
        "user": "1000", "group": "1001",
        "isolators": [filter],
        "mountPoints": [{ "name": "implicit", "path": "/implicit" }],
    }));
    app
}

fn each_step_that_fails_is_taken_back() -> Result<()> {
    with_sandbox(|_, pod| {
        let mut wrong = app("wrong", &[]);
        wrong.app = Some(json!({ "exec": ["/probe"], "user": "nobody-there", "group": "0" }));
        pod.give_app(wrong)?;
        let before = Snapshot::of(pod)?;
        pod.app("app/add", "wrong", &[])?
            .expect_refusal(&["user \"nobody-there\""])?;
        pod.app("app/add", "none", &[])?
            .expect_refusal(&["has no app none"])?;
        before.expect_in(pod)?;

        pod.give_app(demanding())?;
        // What is written beside each file is in the way, and then a mount point of another kind.
        let blocked = [
            "rkt/env/a.new",
            "rkt/spec/a.new",
            "rkt/seccomp/a.new",
            "etc/systemd/system/app-a.service.new",
            "etc/passwd.new",
            "etc/group.new",
        ];
        for path in blocked {
            let blocker = pod.root().join(path);
            fs::create_dir_all(&blocker)?;
            let before = Snapshot::of(pod)?;
            pod.app("app/add", "a", &[])?
                .expect_refusal(&[path, "directory"])?;
            before.expect_in(pod).context(path)?;
            fs::remove_dir(&blocker)?;
        }
        let point = pod.root().join("rkt/volumes/shared");
        fs::create_dir_all(point.parent().context("parent")?)?;
        fs::write(&point, "")?;
        let before = Snapshot::of(pod)?;
        pod.app("app/add", "a", &[])?
            .expect_refusal(&["rkt/volumes/shared of the pod"])?;
        before.expect_in(pod)?;
        fs::remove_file(&point)?;
        pod.app("app/add", "a", &[])?.expect(0)?;
        pod.start_app("a")?.expect(0)?;
        pod.remove_app("a")
    })
}

fn what_is_killed_is_finished_by_the_next() -> Result<()> {
    with_sandbox(|_, pod| {
        pod.give_app(demanding())?;
        pod.app("app/add", "a", &[])?.expect(0)?;
        // The first start makes mount points in the app's root, which stay.
        pod.app("app/start", "a", &[])?.expect(0)?;
        pod.app("app/rm", "a", &["--force"])?.expect(0)?;
        let before = Snapshot::of(pod)?;
        for name in ["app/add", "app/rm"] {
            let mut point = 0;
            loop {
                let context = || format!("{name}, killed at change {point}");
                if name == "app/rm" {
                    pod.app("app/add", "a", &[])?.expect(0)?;
                }
                let killed = killed_at(&pod.app_command(name, "a", &[])?, point)?;
                if point % 4 < 2 {
                    pod.app("app/add", "a", &[])?
                        .expect(0)
                        .with_context(context)?;
                    pod.app("app/start", "a", &[])?
                        .expect(0)
                        .with_context(context)?;
                    pod.app("app/stop", "a", &[])?
                        .expect(0)
                        .with_context(context)?;
                }
                pod.app("app/rm", "a", &[])?
                    .expect(0)
                    .with_context(context)?;
                before.expect_in(pod).with_context(context)?;
                if !killed {
                    break;
                }
                point += 1;
            }
            ensure!(point > 0, "{name} makes no change that is known");
        }
        // As stage0 left it.
        fs::write(pod.root().join("rkt/env/a"), "")?;
        pod.take_app_away("a")
    })
}

/// A volume that stays when its app goes: made by an addition that is killed at any of its changes, it is as it should be.
fn volumes_of_the_pod_appear_whole() -> Result<()> {
    with_sandbox(|_, pod| {
        pod.give_app(demanding())?;
        let all = pod.dir().join("sharedVolumes");
        let volume = all.join("shared");
        let mut point = 0;
        let mut found_whole = false;
        loop {
            let context = || format!("killed at change {point}");
            let killed = killed_at(&pod.app_command("app/add", "a", &[])?, point)?;
            if let Ok(meta) = fs::symlink_metadata(&volume) {
                assert_eq!(meta.mode() & 0o7777, 0o751, "{}", context());
                found_whole |= killed;
            }
            pod.app("app/add", "a", &[])?
                .expect(0)
                .with_context(context)?;
            let mode = fs::symlink_metadata(&volume)?.mode();
            assert_eq!(mode & 0o7777, 0o751, "{}", context());
            pod.app("app/rm", "a", &[])?
                .expect(0)
                .with_context(context)?;
            let names = fs::read_dir(&all)?.flatten().map(|e| e.file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["shared"], "{}", context());
            fs::remove_dir(&volume)?;
            if !killed {
                break;
            }
            point += 1;
        }
        ensure!(
            found_whole,
            "no addition was killed that had made the volume"
        );
        fs::write(pod.root().join("rkt/env/a"), "")?;
        pod.take_app_away("a")
    })
}

/// The memory of a process, in KiB.
fn memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.context("VmRSS")?.trim().trim_end_matches(" kB");
    Ok(number.parse()?)
}

fn a_hundred_times_leaves_nothing() -> Result<()> {
    tests::driver::with(|driver| {
        sandbox(driver, true, |_, pod| {
            let round = |number: u32| -> Result<()> {
                pod.app("app/add", "a", &[])?.expect(0)?;
                if number % 10 == 0 {
                    pod.app("app/start", "a", &[])?.expect(0)?;
                }
                pod.app("app/rm", "a", &["--force"])?.expect(0)?;
                Ok(())
            };
            pod.give_app(demanding())?;
            (0..10).try_for_each(round)?;
            let (before, used) = (Snapshot::of(pod)?, memory(pod.pid1()?)?);
            (0..100).try_for_each(round)?;
            before.expect_in(pod)?;
            let grown = memory(pod.pid1()?)?.saturating_sub(used);
            ensure!(grown < 4096, "PID 1 has grown by {grown} KiB");
            pod.take_app_away("a")
        })
    })
}
