//! Collecting what outlives a pod.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::driver::{AppSpec, Driver, Pod, State};
use tests::process::BOUND;
use tests::wait;

use crate::common::{both, out, server, spec, wait_server};

tests::cases!("gc":
    after_the_pod_was_moved,
    twice,
    after_a_reboot,
    of_a_pod_that_never_ran,
    flags,
    journal_link,
    of_survivors,
    of_a_pod_with_hostile_files,
);

fn app() -> AppSpec {
    AppSpec::probe("a", &["exit", "0"])
}

fn after_the_pod_was_moved() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [app()])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        pod.become_state(State::ExitedGarbage)?;
        pod.gc(&[])?.expect(0)?;
        let left = pod.cgroups()?;
        ensure!(left.is_empty(), "cgroups are left: {left:?}");
        Ok(())
    })
}

fn twice() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [app()])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        pod.become_state(State::ExitedGarbage)?;
        pod.gc(&[])?.expect(0)?;
        pod.gc(&[])?.expect(0)?;
        Ok(())
    })
}

fn after_a_reboot() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [app()])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        // Mounts and cgroups are gone; stage0 mounts its stage1 again to call gc.
        pod.unmount()?;
        for cgroup in pod.cgroups()? {
            remove_tree(&cgroup);
        }
        pod.become_state(State::ExitedGarbage)?;
        pod.mount_stage1()?;
        pod.gc(&[])?.expect(0)?;
        Ok(())
    })
}

fn remove_tree(cgroup: &std::path::Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(cgroup);
}

fn of_a_pod_that_never_ran() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [app()])?)?;
        pod.become_state(State::ExitedGarbage)?;
        pod.gc(&[])?.expect(0)?;
        Ok(())
    })
}

fn flags() -> Result<()> {
    tests::driver::with(|driver| {
        let config = driver.path("config").display().to_string();
        for options in [
            &["--debug"][..],
            &["--local-config", &config],
            &[&format!("-local-config={config}"), "-debug=false"],
        ] {
            let pod = driver.pod_in_run(spec(driver, true, [app()])?)?;
            pod.run(&["--net=none"])?.expect(0)?;
            pod.become_state(State::ExitedGarbage)?;
            pod.gc(&["--unknown"])?
                .expect_refusal(&["gc: ", "unknown"])?;
            pod.gc(options)?.expect(0)?;
        }
        Ok(())
    })
}

fn journal_link() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [app()])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        pod.become_state(State::ExitedGarbage)?;
        pod.gc(&[])?.expect(0)?;
        for dir in ["/var/log/journal", "/run/log/journal"] {
            let link = std::path::Path::new(dir).join(pod.uuid.replace('-', ""));
            ensure!(
                std::fs::symlink_metadata(&link).is_err(),
                "{} is left",
                link.display()
            );
        }
        Ok(())
    })
}

/// An existing stage0 takes a pod whose supervisor was killed for an exited one, and calls gc, not stop.
fn of_survivors() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        let supervisor: i32 = pod.read("ppid")?.trim().parse()?;
        kill_process(Pid::from_raw(supervisor).context("ppid")?, Signal::KILL)?;
        drop(run);
        ensure!(!pod.processes()?.is_empty(), "the apps have ended too");
        pod.become_state(State::ExitedGarbage)?;
        pod.gc(&[])?.expect(0)?;
        assert_eq!(pod.processes()?, [""; 0]);
        assert_eq!(pod.cgroups()?, [""; 0].map(PathBuf::from));
        Ok(())
    })
}

/// Whatever its files say by then, gc takes this pod's things and nobody else's, and does not hang.
fn of_a_pod_with_hostile_files() -> Result<()> {
    tests::driver::with(|driver| {
        let other = driver.pod_in_run(spec(driver, true, [server()])?)?;
        let run = other.start(&["--net=none"])?;
        wait_server(driver)?;
        let theirs = other.dir().join("subcgroup");
        for kind in ["text", "link", "parents", "root", "fifo", "folder"] {
            spoilt(driver, kind, &theirs).with_context(|| format!("subcgroup is a {kind}"))?;
            ensure!(other.is_locked()?, "{kind}: the other pod has ended");
        }
        other.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        ensure!(
            out(driver)?.join("stopped").exists(),
            "the other pod was killed"
        );
        Ok(())
    })
}

/// A pod whose `subcgroup` leads to the other's, or is nothing to be read.
fn spoilt(driver: &Driver, kind: &str, theirs: &Path) -> Result<()> {
    let pod = driver.pod_in_run(spec(driver, true, [app()])?)?;
    pod.run(&["--net=none"])?.expect(0)?;
    let own = left_cgroups(&pod)?;
    ensure!(!own.is_empty(), "the pod has left no cgroup to be freed");
    pod.become_state(State::ExitedGarbage)?;
    let file = pod.dir().join("subcgroup");
    let before = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    match kind {
        "text" => fs::copy(theirs, &file).map(drop)?,
        "link" => symlink(theirs, &file)?,
        "parents" => {
            let other = fs::read_to_string(theirs)?;
            fs::write(&file, format!("{other}/../rkt-{}", pod.uuid))?;
        }
        "root" => fs::write(&file, "/")?,
        "fifo" => {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode)?;
        }
        _ => fs::create_dir(&file)?,
    }
    let finished = pod.gc(&[])?.expect(0)?;
    ensure!(finished.stderr.contains("gc: warning: "), "{finished}");
    let left: Vec<_> = own.iter().filter(|dir| dir.exists()).collect();
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
    fs::write(&file, before)?;
    Ok(())
}

/// The cgroups that the ended pod has left. A scope is taken away by the host's systemd, in its own time: after that,
/// its cgroups are made again, as if systemd had been ended before it came to them.
fn left_cgroups(pod: &Pod) -> Result<Vec<PathBuf>> {
    if pod.read("subcgroup")?.ends_with(".scope") {
        for place in pod.cgroup_places()? {
            if place.parent().is_some_and(|parent| parent.exists()) {
                wait::for_file(&place, Some(BOUND), |place| !place.exists())?;
                fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
            }
        }
    }
    pod.cgroups()
}
