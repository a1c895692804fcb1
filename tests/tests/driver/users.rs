//! Pods with user namespaces as an existing rkt makes them: plain roots, given to a range that a file names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, Call, Driver, Pod, PodSpec};
use tests::process::run;

use crate::common::{out, seeing, seen};

tests::cases!("users":
    apps_have_the_ids_of_the_range,
    apps_are_added,
    only_of_the_pods_range,
);

/// The host's id of root. Theirs are far from those that stage0 picks.
const SHIFT: u32 = 2_000_000_000;
const OPTION: &str = "--private-users=2000000000:65536";

/// Gives all files of a tree to the range that were not given to it.
fn shift(path: &Path) -> Result<()> {
    let stat = fs::symlink_metadata(path).with_context(|| format!("stat {}", path.display()))?;
    if stat.uid() < SHIFT {
        lchown(path, Some(SHIFT + stat.uid()), Some(SHIFT + stat.gid()))?;
        if !stat.is_symlink() {
            // The change of the owner clears some bits.
            fs::set_permissions(path, fs::Permissions::from_mode(stat.mode() & 0o7777))?;
        }
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path)? {
            shift(&entry?.path())?;
        }
    }
    Ok(())
}

fn pod_of(driver: &Driver, spec: PodSpec) -> Result<std::rc::Rc<Pod>> {
    let shared = out(driver)?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777))?;
    let pod = driver.pod_in_run(spec.with_volume("out", &shared, "/out"))?;
    shift(&pod.root())?;
    fs::write(pod.dir().join("private-users-prepared"), "2000000000:65536")?;
    Ok(pod)
}

fn apps_have_the_ids_of_the_range() -> Result<()> {
    tests::driver::with(|driver| {
        let mut alice = seeing("alice");
        alice.app = alice.app.map(|mut app| {
            app["user"] = json!("alice");
            app["group"] = json!("3456");
            app
        });
        let pod = pod_of(driver, PodSpec::new(false, [seeing("root"), alice]))?;
        pod.run(&["--net=none", OPTION])?.expect(0)?;
        for (name, uid, gid) in [("root", 0, 0), ("alice", 1234, 3456)] {
            let seen = seen(driver, name)?;
            assert_eq!((seen.uids[0], seen.gids[0]), (uid, gid), "{name}");
            let stat = fs::metadata(out(driver)?.join(format!("{name}.json")))?;
            let owner = (SHIFT + uid, SHIFT + gid);
            assert_eq!((stat.uid(), stat.gid()), owner, "{name}");
            let status = pod.read(&format!("stage1/rootfs/rkt/status/{name}"))?;
            assert_eq!(status.trim(), "0");
        }
        Ok(())
    })
}

fn apps_are_added() -> Result<()> {
    tests::driver::with(|driver| {
        let mark = json!([{ "name": "coreos.com/rkt/stage1/mutable", "value": "true" }]);
        let pod = pod_of(driver, PodSpec::new(false, []).with("annotations", mark))?;
        let started = pod.start(&["--net=none", OPTION])?;
        pod.wait_ready()?;
        for range in [None, Some(OPTION)] {
            let steps = ["do", "write", "/out/up", "x", "+", "until-term"];
            let mounts = json!([{ "volume": "out", "path": "/out" }]);
            let lock = pod.lock_manifest()?;
            let app = pod.give_app(AppSpec::probe("a", &steps).with("mounts", mounts))?;
            shift(&pod.root())?;
            let options: Vec<&str> = range.into_iter().collect();
            pod.app("app/add", &app, &options)?.expect(0)?;
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock)?;
            pod.start_app("a")?.expect(0)?;
            let up = out(driver)?.join("up");
            tests::wait::for_path(&up, Some(tests::process::BOUND))?;
            assert_eq!(fs::metadata(&up)?.uid(), SHIFT);
            fs::remove_file(&up)?;
            let entered = run(pod.enter(Call::OfStore, &["--appname=a"], &["/probe", "see"])?)?;
            let entered = entered.expect(0)?;
            ensure!(entered.stdout.contains("2000000000"), "{entered}");
            pod.remove_app("a")?;
        }
        pod.stop(&[])?.expect(0)?;
        started.process.finish()?.expect(0)?;
        Ok(())
    })
}

fn only_of_the_pods_range() -> Result<()> {
    tests::driver::with(|driver| {
        for (range, part) in [
            ("5", "SHIFT:COUNT"),
            ("0:65536", "the host's root"),
            ("2000000000:1000", "1234"),
        ] {
            let mut app = seeing("a");
            app.app = app.app.map(|mut app| {
                app["user"] = json!("alice");
                app
            });
            let pod = pod_of(driver, PodSpec::new(false, [app]))?;
            let option = format!("--private-users={range}");
            pod.run(&["--net=none", &option])?.expect_refusal(&[part])?;
        }
        Ok(())
    })
}
