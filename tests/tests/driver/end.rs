//! Locks, statuses and the end of the pod.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::driver::AppSpec;

use crate::common::{both, out, server, spec, wait_server};

tests::cases!("end":
    status_of_the_app_is_the_runs,
    statuses_are_complete_before_the_lock_falls,
    lock_is_held_by_the_run_alone,
    lock_is_not_seen_inside,
    failing_app_ends_the_pod,
    signal_is_128_and_its_number,
    stop_is_orderly,
    stop_by_force,
    stop_flags,
    kill_of_the_supervisor_leaves_a_pod_that_can_be_stopped,
    failed_start_leaves_nothing,
);

fn status_of_the_app_is_the_runs() -> Result<()> {
    both(|driver, overlay| {
        for status in ["0", "1", "42"] {
            let pod = driver.pod_in_run(spec(
                driver,
                overlay,
                [AppSpec::probe("a", &["exit", status])],
            )?)?;
            pod.run(&["--net=none"])?.expect(status.parse()?)?;
            assert_eq!(pod.statuses()?["a"].to_string(), status);
            assert_eq!(pod.json_status("a")?["exitCode"].to_string(), status);
        }
        Ok(())
    })
}

fn statuses_are_complete_before_the_lock_falls() -> Result<()> {
    both(|driver, overlay| {
        let apps = ["a", "b", "c", "d"]
            .map(|name| AppSpec::probe(name, &["do", "wait-file", "/out/go", "+", "exit", "0"]));
        let pod = driver.pod_in_run(spec(driver, overlay, apps)?)?;
        let run = pod.start(&["--net=none"])?;
        pod.wait_ready()?;
        ensure!(pod.is_locked()?, "the lock has fallen while the pod runs");
        fs::write(out(driver)?.join("go"), "")?;
        pod.wait_unlocked()?;
        let statuses = pod.statuses()?;
        assert_eq!(
            statuses.values().copied().collect::<Vec<_>>(),
            [0; 4],
            "{statuses:?}"
        );
        run.process.finish()?.expect(0)?;
        Ok(())
    })
}

fn lock_is_held_by_the_run_alone() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        let holders = holders_of(&pod.dir())?;
        assert_eq!(
            holders,
            [run.process.pid().as_raw_nonzero().get()],
            "who has the pod directory open"
        );
        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        ensure!(!pod.is_locked()?, "the lock is held after the end");
        Ok(())
    })
}

/// Processes, this one aside, with a descriptor of a directory.
fn holders_of(dir: &std::path::Path) -> Result<Vec<i32>> {
    let own = i32::try_from(std::process::id())?;
    let processes = fs::read_dir("/proc")?.flatten();
    let pids =
        processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    Ok(pids
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let fds = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten();
            fds.filter_map(|fd| fs::read_link(fd.path()).ok())
                .any(|target| target == dir)
        })
        .collect())
}

fn lock_is_not_seen_inside() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [crate::common::seeing("a")])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        let seen = crate::common::seen(driver, "a")?;
        assert_eq!(
            seen.fds.keys().copied().collect::<Vec<_>>(),
            [0, 1, 2],
            "{:?}",
            seen.fds
        );
        for line in &seen.env {
            ensure!(
                !line.starts_with("RKT_") && !line.starts_with("LEAKED_"),
                "{line}"
            );
        }
        Ok(())
    })
}

fn failing_app_ends_the_pod() -> Result<()> {
    both(|driver, overlay| {
        let bad = AppSpec::probe("bad", &["do", "wait-file", "/out/ready", "+", "exit", "3"]);
        let pod = driver.pod_in_run(spec(driver, overlay, [server(), bad])?)?;
        pod.run(&["--net=none"])?.expect(3)?;
        assert_eq!(pod.statuses()?["bad"], 3);
        assert_eq!(
            pod.statuses()?["server"],
            0,
            "the other one is stopped in order"
        );
        ensure!(
            out(driver)?.join("stopped").exists(),
            "the other one could not finish"
        );
        Ok(())
    })
}

fn signal_is_128_and_its_number() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(
            driver,
            overlay,
            [AppSpec::probe("a", &["kill", "KILL"])],
        )?)?;
        pod.run(&["--net=none"])?.expect(137)?;
        assert_eq!(pod.statuses()?["a"], 137);
        assert_eq!(pod.json_status("a")?["signal"], "SIGKILL");
        Ok(())
    })
}

fn stop_is_orderly() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        pod.stop(&[])?.expect(0)?;
        let finished = run.process.finish()?.expect(0)?;
        ensure!(
            out(driver)?.join("stopped").exists(),
            "the app could not finish"
        );
        assert_eq!(finished.console("server"), ["got SIGTERM"]);
        Ok(())
    })
}

fn stop_by_force() -> Result<()> {
    both(|driver, overlay| {
        let stubborn = AppSpec::probe(
            "a",
            &[
                "do",
                "ignore-term",
                "+",
                "write",
                "/out/ready",
                "",
                "+",
                "hang",
            ],
        );
        let pod = driver.pod_in_run(spec(driver, overlay, [stubborn])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        pod.stop(&["--force"])?.expect(0)?;
        ensure!(
            run.process.finish()?.code() != 0,
            "a killed pod has not ended well"
        );
        ensure!(!pod.is_locked()?, "the lock is held after the end");
        Ok(())
    })
}

fn stop_flags() -> Result<()> {
    tests::driver::with(|driver| {
        for options in [
            &["--debug"][..],
            &["-debug=true", "--force=false"],
            &["-force"],
            &["--force=true", "--debug=false"],
        ] {
            let pod = driver.pod_in_run(spec(driver, true, [server()])?)?;
            let run = pod.start(&["--net=none"])?;
            wait_server(driver)?;
            pod.stop(&["--unknown"])?.expect(254)?;
            pod.stop(options)?
                .expect(0)
                .with_context(|| format!("{options:?}"))?;
            run.process.finish()?;
            fs::remove_file(out(driver)?.join("ready"))?;
        }
        Ok(())
    })
}

fn kill_of_the_supervisor_leaves_a_pod_that_can_be_stopped() -> Result<()> {
    both(|driver, overlay| {
        for options in [&[][..], &["--force"]] {
            let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
            let run = pod.start(&["--net=none"])?;
            wait_server(driver)?;
            let pid1 = pod.pid1()?;
            let ppid: i32 = pod.read("ppid")?.trim().parse()?;
            kill_process(Pid::from_raw(ppid).context("ppid")?, Signal::KILL)?;
            drop(run);
            ensure!(
                fs::exists(format!("/proc/{pid1}"))?,
                "PID 1 has died with its supervisor"
            );
            let gone = rustix::process::pidfd_open(
                Pid::from_raw(pid1).context("pid")?,
                rustix::process::PidfdFlags::empty(),
            )?;
            pod.stop(options)?.expect(0)?;
            let end = std::time::Instant::now() + tests::process::BOUND;
            ensure!(
                tests::wait::readable(std::os::fd::AsFd::as_fd(&gone), Some(end))?,
                "PID 1 lives on"
            );
            fs::remove_file(out(driver)?.join("ready"))?;
        }
        Ok(())
    })
}

fn failed_start_leaves_nothing() -> Result<()> {
    both(|driver, overlay| {
        let broken = spec(driver, overlay, [server()])?.with_volume(
            "data",
            &driver.path("not-there"),
            "/data",
        );
        let pod = driver.pod_in_run(broken)?;
        pod.run(&["--net=none"])?.expect_refusal(&[
            "init: ",
            "not-there",
            "No such file or directory",
        ])?;
        ensure!(!pod.is_locked()?, "the lock is held after the failure");
        ensure!(
            !pod.dir().join("ppid").exists() && !pod.dir().join("pid").exists(),
            "there is a pid file"
        );
        if pod.dir().join("subcgroup").exists() {
            assert_eq!(
                pod.cgroups()?,
                [""; 0].map(std::path::PathBuf::from),
                "cgroups are left"
            );
        }
        Ok(())
    })
}
