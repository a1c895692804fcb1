//! Pods with user namespaces: which ids they get, and whose their files are on the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use tests::fixture::{App, Fixture, with};
use tests::image::{dir, file};
use tests::probe::{Outcome, Seen};

use crate::common::{maps_owners, need_mapped_owners};

tests::cases!("users":
    files_of_overlays_are_of_the_range,
    files_of_plain_roots_are_of_the_range,
    a_range_is_given,
    wrong_ranges,
    ranges_are_not_the_same,
    ids_beyond_the_range,
    owners_of_volumes_can_be_mapped,
    what_cannot_be_mapped_is_copied,
);

/// The range that a pod has, as its directory says.
fn range(fixture: &Fixture, uuid: &str) -> Result<(u32, u32)> {
    let path = fixture.pod_dir(uuid)?.join("private-users-prepared");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (shift, count) = text.split_once(':').context("a colon")?;
    Ok((shift.parse()?, count.parse()?))
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    let stat = fs::symlink_metadata(path).with_context(|| format!("stat {}", path.display()))?;
    Ok((stat.uid(), stat.gid()))
}

/// Apps of two users, which write to the pod's volumes and their own roots, and look at them.
fn writing() -> [App; 2] {
    let looks = ["/", "/etc/passwd", "/home", "/home/x", "/empty"];
    let looks = looks.map(|path| format!("+ --stat {path}").replace("+ ", ""));
    let app = |name: &str, own: &str| {
        let steps = format!(
            "do write /out/by-{name} x + write /empty/{name} x + write {own} x + see --out /out/{name}.json"
        );
        let words = steps.split(' ').map(str::to_owned);
        let looks = looks
            .iter()
            .flat_map(|look| look.split(' ').map(str::to_owned));
        let files = ["/proc/self/uid_map", "/proc/self/gid_map"];
        let reads = files
            .iter()
            .flat_map(|f| ["--read".to_owned(), (*f).to_owned()]);
        let home = [
            dir("home/", 0o755).owned(1234, 2345),
            file("home/x", 0o640, "x").owned(1234, 2345),
        ];
        App::probe(name, words.chain(looks).chain(reads))
            .change(|image| image.with(home))
            .option("--mount=volume=empty,target=/empty")
    };
    [
        app("root", "/etc/new"),
        app("alice", "/home/new")
            .option("--user=alice")
            .option("--group=2345"),
    ]
}

/// What an app of [`writing`] has found: its ids, and its files as the image and the volume have them.
fn sees_its_range(seen: &Seen, shift: u32, count: u32) -> Result<()> {
    for map in ["uid_map", "gid_map"] {
        let map = seen.text(&format!("/proc/self/{map}"))?;
        let numbers: Vec<u32> = map.split_whitespace().flat_map(str::parse).collect();
        ensure!(numbers == [0, shift, count], "{map}");
    }
    for (path, uid, gid, mode) in [
        ("/", 0, 0, 0o755),
        ("/etc/passwd", 0, 0, 0o644),
        ("/home", 1234, 2345, 0o755),
        ("/home/x", 1234, 2345, 0o640),
        ("/empty", 7, 8, 0o1777),
    ] {
        let node = seen.stat(path)?;
        let found = (node.uid, node.gid, node.mode);
        ensure!(found == (uid, gid, mode), "{path}: {found:?}");
    }
    Ok(())
}

fn files_are_of_the_range(overlay_is_wished: bool) -> Result<()> {
    with(|fixture| {
        let mut pod = fixture
            .pod(writing())
            .option("--private-users")
            .option("--volume=empty,kind=empty,mode=1777,uid=7,gid=8");
        if !overlay_is_wished {
            pod = pod.option("--no-overlay");
        }
        let finished = pod.run()?.expect(0)?;
        let uuid = fixture.only_pod()?;
        let (shift, count) = range(fixture, &uuid)?;
        ensure!(shift >= 1 << 19 && count == 1 << 16, "{shift}:{count}");
        for name in ["root", "alice"] {
            sees_its_range(&fixture.seen(name)?, shift, count).context(name)?;
        }
        let pod = fixture.pod_dir(&uuid)?;
        let overlay = overlay_is_wished && maps_owners(fixture)?;
        assert_eq!(pod.join("overlay-prepared").exists(), overlay, "{finished}");
        let told = finished.stderr.contains("copying root file systems: ");
        assert_eq!(told, overlay_is_wished && !overlay, "{finished}");
        let stored = |app| stored(&pod, app, overlay);
        let (of_root, of_alice) = (stored("root")?, stored("alice")?);
        // Files of images are shown with other owners, and not given to them.
        assert_eq!(of_root.join("etc/passwd").exists(), !overlay);
        let alice = (shift + 1234, shift + 2345);
        for (path, expected) in [
            (fixture.out("by-root"), (shift, shift)),
            (fixture.out("by-alice"), alice),
            (pod.join("sharedVolumes/empty"), (shift + 7, shift + 8)),
            (pod.join("sharedVolumes/empty/alice"), alice),
            (of_root.join("etc/new"), (shift, shift)),
            (of_alice.join("home/new"), alice),
        ] {
            assert_eq!(owner(&path)?, expected, "{}", path.display());
        }
        Ok(())
    })
}

/// Where the host stores the root of an app, or in an overlay what was changed of it.
fn stored(pod: &Path, app: &str, overlay: bool) -> Result<PathBuf> {
    if !overlay {
        return Ok(pod
            .join("stage1/rootfs/opt/stage2")
            .join(app)
            .join("rootfs"));
    }
    let id = pod.join("appsinfo").join(app).join("treeStoreID");
    let id = fs::read_to_string(&id).with_context(|| format!("read {}", id.display()))?;
    let upper = pod.join("overlay").join(id.trim()).join("upper");
    Ok(upper.join(app))
}

fn files_of_overlays_are_of_the_range() -> Result<()> {
    files_are_of_the_range(true)
}

fn files_of_plain_roots_are_of_the_range() -> Result<()> {
    files_are_of_the_range(false)
}

fn a_range_is_given() -> Result<()> {
    with(|fixture| {
        // Neither aligned nor long.
        let pod = fixture
            .pod([App::seeing("a", ["--read", "/proc/self/uid_map"]).option("--user=999")])
            .option("--private-users=300001:1000");
        let uuid = pod.prepare()?;
        for (words, part) in [
            (&["status", &uuid][..], "private-users=300001:1000\n"),
            (
                &["status", &uuid, "--format=json"],
                "\"private-users\": \"300001:1000\"",
            ),
            (
                &["list", "--format=json"],
                "\"private-users\": \"300001:1000\"",
            ),
            (&["list"], "300001:1000"),
        ] {
            let told = fixture.stage0(words)?.expect(0)?;
            ensure!(told.stdout.contains(part), "{told}");
        }
        fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        let map = fixture.seen("a")?.text("/proc/self/uid_map")?.to_owned();
        let numbers: Vec<u32> = map.split_whitespace().flat_map(str::parse).collect();
        assert_eq!(numbers, [0, 300_001, 1000]);
        assert_eq!(owner(&fixture.out("a.json"))?, (301_000, 300_001));
        Ok(())
    })
}

fn wrong_ranges() -> Result<()> {
    with(|fixture| {
        for (range, part) in [
            ("yes", "SHIFT:COUNT"),
            ("65536", "SHIFT:COUNT"),
            ("-1:65536", "SHIFT:COUNT"),
            ("4294967296:65536", "SHIFT:COUNT"),
            ("0:65536", "the host's root"),
            ("65536:0", "at least"),
            ("65536:5", "at least"),
            ("4294901760:65536", "last id"),
        ] {
            let option = format!("--private-users={range}");
            let pod = fixture
                .pod([App::probe("a", ["exit", "0"])])
                .option(&option);
            pod.run()?
                .expect_refusal(&["--private-users", range, part])?;
        }
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        Ok(())
    })
}

fn ranges_are_not_the_same() -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&tests::fixture::probe_image("a"))?;
        let prepare = || fixture.start(["prepare", "--private-users", &id]);
        let running: Vec<_> = (0..6).map(|_| prepare()).collect::<Result<_>>()?;
        let mut ranges = Vec::new();
        for running in running {
            let uuid = running.finish()?.expect(0)?.stdout;
            ranges.push(range(fixture, uuid.trim())?);
        }
        ranges.sort_unstable();
        let apart = |pair: &[(u32, u32)]| pair[0].0 + pair[0].1 <= pair[1].0;
        ensure!(ranges.windows(2).all(apart), "{ranges:?}");
        // Who asks for a range that somebody has is told.
        let (shift, count) = ranges[0];
        let same = format!("--private-users={shift}:{count}");
        let told = fixture.stage0(["prepare", &same, &id])?.expect(0)?;
        ensure!(told.stderr.contains("has ids of it"), "{told}");
        Ok(())
    })
}

fn ids_beyond_the_range() -> Result<()> {
    with(|fixture| {
        let of_file = App::probe("a", ["exit", "0"])
            .change(|image| image.with([file("etc/x", 0o644, "x").owned(5, 70_000)]));
        for option in ["--no-overlay=false", "--no-overlay"] {
            let pod = fixture
                .pod([of_file.clone()])
                .option("--private-users")
                .option(option);
            let parts = ["app a", "/etc/x", "group", "70000", "65536 ids"];
            pod.run()?.expect_refusal(&parts)?;
        }
        for (option, parts) in [
            ("--user=70000", ["user \"70000\"", "65536 ids"]),
            (
                "--supplementary-gids=70000",
                ["supplementaryGIDs", "65536 ids"],
            ),
        ] {
            let app = App::probe("a", ["exit", "0"]).option(option);
            let finished = fixture.pod([app]).option("--private-users").run()?;
            finished.expect_refusal(&parts)?;
        }
        let app = App::probe("a", ["exit", "0"]).option("--mount=volume=e,target=/e");
        let pod = fixture.pod([app]).option("--volume=e,kind=empty,uid=70000");
        let finished = pod.option("--private-users").run()?;
        finished.expect_refusal(&["volume e", "70000", "65536 ids"])?;
        let tight = fixture.pod([App::probe("a", ["exit", "0"]).option("--user=alice")]);
        let finished = tight.option("--private-users=65536:1000").run()?;
        finished.expect_refusal(&["user \"alice\"", "1234", "1000 ids"])?;
        Ok(())
    })
}

fn owners_of_volumes_can_be_mapped() -> Result<()> {
    with(|fixture| {
        need_mapped_owners(fixture)?;
        let data = fixture.dir("data")?;
        fs::write(data.join("of-alice"), "x")?;
        chown(data.join("of-alice"), Some(1234), Some(2345))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
        let app = |name: &str, source: &str| {
            let steps = format!(
                "do write {source}/by-{name} x + see --out /out/{name}.json --stat {source}/of-alice --write /ro/x"
            );
            App::probe(name, steps.split(' ').map(str::to_owned))
                .option("--mount=volume=data,target=/data")
                .option("--mount=volume=ro,target=/ro")
        };
        let volume = |name: &str, more: &str| {
            format!(
                "--volume={name},kind=host,source={},idmap=true{more}",
                data.display()
            )
        };
        let options = [volume("data", ""), volume("ro", ",readOnly=true")];
        let own = fixture.dir("own")?;
        let of_app = format!(
            "--mnt-volume=name=own,target=/own,kind=host,source={},idmap=true",
            own.display()
        );
        let pod = fixture
            .pod([app("run", "/data").option(of_app)])
            .option("--private-users");
        options
            .iter()
            .fold(pod, |pod, option| pod.option(option))
            .run()?
            .expect(0)?;
        let mut sandbox_options = vec!["--private-users".to_owned()];
        sandbox_options.extend(options);
        let sandbox = fixture.sandbox(&sandbox_options)?;
        sandbox.run(&app("added", "/data"))?;
        assert_eq!(sandbox.ended("added")?["status"], 0);
        sandbox.stop()?.expect(0)?;
        for name in ["run", "added"] {
            let seen = fixture.seen(name)?;
            let node = seen.stat("/data/of-alice")?;
            assert_eq!((node.uid, node.gid), (1234, 2345), "{name}");
            assert_eq!(owner(&data.join(format!("by-{name}")))?, (0, 0), "{name}");
            let refused = Outcome::Error(rustix::io::Errno::ROFS.raw_os_error());
            assert_eq!(seen.look("write", "/ro/x")?, &refused, "{name}");
        }
        Ok(())
    })
}

/// A file system that cannot map owners; gone with the value.
struct Ramfs(PathBuf);

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn what_cannot_be_mapped_is_copied() -> Result<()> {
    with(|fixture| {
        let data = fixture.dir("data")?;
        mount("ramfs", &data, "ramfs", MountFlags::empty(), None).context("mount a ramfs")?;
        let mounted = Ramfs(data);
        let app = App::seeing("a", ["--stat", "/etc/passwd"]);
        let told = fixture
            .pod([app])
            .option("--private-users")
            .run()?
            .expect(0)?;
        ensure!(
            told.stderr.contains("copying root file systems: "),
            "{told}"
        );
        ensure!(told.stderr.contains("map the owners"), "{told}");
        let node = fixture.seen("a")?;
        assert_eq!(node.stat("/etc/passwd")?.uid, 0);
        let list: Value = serde_json::from_str(&fixture.text(["list", "--format=json"])?)?;
        let uuid = list[0]["uuid"].as_str().context("no UUID")?.to_owned();
        let dir = fixture.pod_dir(&uuid)?;
        ensure!(!dir.join("overlay-prepared").exists() && !dir.join("overlay").exists());
        fixture.text(["rm", &uuid])?;
        fixture.text(["gc", "--grace-period=0s"])?;
        drop(mounted);
        Ok(())
    })
}
