//! States follow from where a pod directory is and from its lock, whoever made it.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use tests::fixture::{App, Fixture, with};

use crate::common::{new_uuid, status};

tests::cases!("states":
    follow_from_place_and_lock,
    gc_takes_what_nobody_works_on,
    many_pods_at_once,
);

/// Makes a pod directory as a stage0 leaves it that died early, and opens it.
fn pod_dir(fixture: &Fixture, place: &str, uuid: &str) -> Result<(PathBuf, File)> {
    let path = fixture.data().join("pods").join(place).join(uuid);
    fs::create_dir_all(&path)?;
    let dir = File::open(&path).context("open the pod directory")?;
    Ok((path, dir))
}

fn follow_from_place_and_lock() -> Result<()> {
    with(|fixture| {
        let uuid = new_uuid()?;
        // The data directory comes to be.
        fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        for (place, locked, state) in [
            ("embryo", true, "embryo"),
            ("prepare", true, "preparing"),
            ("prepare", false, "aborted"),
            ("exited-garbage", true, "deleting"),
            ("exited-garbage", false, "exited"),
            ("garbage", true, "deleting"),
        ] {
            let (path, dir) = pod_dir(fixture, place, &uuid)?;
            if locked {
                flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            }
            assert_eq!(
                status(fixture, &uuid)?["state"],
                state,
                "{place}, locked: {locked}"
            );
            let list = fixture.text(["list"])?;
            let line = list
                .lines()
                .find(|line| line.contains(&uuid[..8]))
                .with_context(|| format!("not in {list}"))?;
            ensure!(line.contains(state), "{line}");
            fs::remove_dir(path)?;
        }
        Ok(())
    })
}

fn gc_takes_what_nobody_works_on() -> Result<()> {
    with(|fixture| {
        let uuid = new_uuid()?;
        fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        for place in ["embryo", "prepare", "exited-garbage", "garbage"] {
            let (path, dir) = pod_dir(fixture, place, &uuid)?;
            flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            fixture.text(["gc", "--grace-period=0s"])?;
            ensure!(path.exists(), "{place}: taken while somebody works on it");
            // Not only closed: a child that another test is forking may have a copy.
            flock(&dir, FlockOperation::Unlock)?;
            fixture.text(["gc", "--grace-period=0s"])?;
            ensure!(!path.exists(), "{place}: left behind");
        }
        Ok(())
    })
}

fn many_pods_at_once() -> Result<()> {
    with(|fixture| {
        let running = (1..=6)
            .map(|status| {
                fixture
                    .pod([App::probe("a", ["exit", &status.to_string()])])
                    .start()
            })
            .collect::<Result<Vec<_>>>()?;
        for (status, pod) in (1..).zip(running) {
            pod.finish()?.expect(status)?;
        }
        assert_eq!(fixture.pods().len(), 6);
        Ok(())
    })
}
