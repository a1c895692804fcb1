//! States follow from where a pod directory is and from its lock, whoever made it.

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use tests::fixture::{App, Fixture, with};

use crate::common::status;

tests::cases!("states":
    follow_from_place_and_lock,
    gc_takes_what_nobody_works_on,
    many_pods_at_once,
);

const UUID: &str = "0d7ff2b6-8f0c-4e51-9f0c-6a1a2c3d4e5f";

/// Makes a pod directory as a stage0 leaves it that died early.
fn pod_dir(fixture: &Fixture, place: &str) -> Result<File> {
    let dir = fixture.data().join("pods").join(place).join(UUID);
    fs::create_dir_all(&dir)?;
    File::open(&dir).context("open the pod directory")
}

fn follow_from_place_and_lock() -> Result<()> {
    with(|fixture| {
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
            let dir = pod_dir(fixture, place)?;
            if locked {
                flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            }
            assert_eq!(
                status(fixture, UUID)?["state"],
                state,
                "{place}, locked: {locked}"
            );
            let list = fixture.text(["list"])?;
            let line = list
                .lines()
                .find(|line| line.contains(&UUID[..8]))
                .with_context(|| format!("not in {list}"))?;
            ensure!(line.contains(state), "{line}");
            fs::remove_dir(fixture.data().join("pods").join(place).join(UUID))?;
        }
        Ok(())
    })
}

fn gc_takes_what_nobody_works_on() -> Result<()> {
    with(|fixture| {
        fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        for place in ["embryo", "prepare", "exited-garbage", "garbage"] {
            let dir = pod_dir(fixture, place)?;
            let path = fixture.data().join("pods").join(place).join(UUID);
            flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            fixture.text(["gc", "--grace-period=0s"])?;
            ensure!(path.exists(), "{place}: taken while somebody works on it");
            drop(dir);
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
