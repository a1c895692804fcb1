//! Collecting what outlives a pod.

use anyhow::{Result, ensure};
use tests::driver::{AppSpec, State};

use crate::common::{both, spec};

tests::cases!("gc":
    after_the_pod_was_moved,
    twice,
    after_a_reboot,
    of_a_pod_that_never_ran,
    flags,
    journal_link,
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
