//! Entrypoints called while the pod starts, and at the same time.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, Call, Driver, Pod, PodSpec};
use tests::harness::without;
use tests::process::{BOUND, Running, run};

use crate::common::{both, server, spec, wait_server};

tests::cases!("start":
    enter_during_the_start,
    stop_during_the_start,
    stops_at_the_same_time,
    mutable_pod_outlives_its_apps,
    kill_during_the_start_leaves_what_gc_takes,
    a_kernel_without_a_call_is_refused,
);

/// Host pids of the children of the supervisor, as soon as there are any.
fn children(pod: &Pod) -> Result<Vec<String>> {
    tests::wait::for_path(&pod.dir().join("ppid"), Some(BOUND))?;
    let ppid = pod.read("ppid")?;
    let file = format!("/proc/{0}/task/{0}/children", ppid.trim());
    let end = std::time::Instant::now() + BOUND;
    loop {
        let children = fs::read_to_string(&file)?;
        if !children.trim().is_empty() {
            return Ok(children.split_whitespace().map(str::to_owned).collect());
        }
        // The kernel tells nobody of a fork that is not traced.
        ensure!(
            std::time::Instant::now() < end,
            "the supervisor makes no child"
        );
        std::thread::yield_now();
    }
}

fn enter_during_the_start() -> Result<()> {
    both(|driver, overlay| {
        for _ in 0..5 {
            let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
            pod.put(
                "probe-in-the-pod",
                fs::read(tests::harness::probe())?,
                0o755,
            )?;
            let started = pod.start(&["--net=none"])?;
            for pid in children(&pod)? {
                // Only the pod's root has such a program: not the host's.
                let words = [
                    &format!("--pid={pid}"),
                    "--",
                    "/probe-in-the-pod",
                    "exit",
                    "7",
                ];
                let finished = run(pod.command("enter", Call::OfStore, words)?)?;
                if finished.code() != 7 {
                    finished.expect_refusal(&["enter: "])?;
                }
            }
            wait_server(driver)?;
            pod.stop(&[])?.expect(0)?;
            started.process.finish()?.expect(0)?;
            fs::remove_file(crate::common::out(driver)?.join("ready"))?;
        }
        Ok(())
    })
}

fn stop_during_the_start() -> Result<()> {
    both(|driver, overlay| {
        for options in [&[][..], &["--force"]] {
            let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
            let started = pod.start(&["--net=none"])?;
            children(&pod)?;
            pod.stop(options)?.expect(0)?;
            started.process.finish()?;
            ensure!(!pod.is_locked()?, "the lock is held after the end");
        }
        Ok(())
    })
}

fn stops_at_the_same_time() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let started = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        let stops = (0..3)
            .map(|_| {
                Running::start(
                    pod.command("stop", Call::OfPod, [&pod.uuid])?,
                    std::process::Stdio::null(),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        for stop in stops {
            stop.finish()?.expect(0)?;
        }
        started.process.finish()?.expect(0)?;
        assert_eq!(pod.statuses()?["server"], 0);
        Ok(())
    })
}

fn mutable_pod_outlives_its_apps() -> Result<()> {
    let outlives = |driver: &Driver, spec: PodSpec, options: &[&str]| -> Result<()> {
        let pod = driver.pod_in_run(spec)?;
        let started = pod.start(options)?;
        pod.wait_ready()?;
        tests::wait::for_path(&pod.root().join("rkt/status/a"), Some(BOUND))?;
        // The supervisor answers: it has not begun to end.
        pod.put("probe", fs::read(tests::harness::probe())?, 0o755)?;
        pod.cross(None, &["/probe", "exit", "0"])?.expect(0)?;
        ensure!(pod.is_locked()?, "the pod has ended with its app");
        pod.stop(&[])?.expect(0)?;
        started.process.finish()?;
        Ok(())
    };
    both(|driver, overlay| {
        for status in ["0", "3"] {
            let app = || AppSpec::probe("a", &["exit", status]);
            outlives(
                driver,
                spec(driver, overlay, [app()])?,
                &["--net=none", "--mutable"],
            )?;
            let mark = json!([{ "name": "coreos.com/rkt/stage1/mutable", "value": "true" }]);
            outlives(
                driver,
                spec(driver, overlay, [app()])?.with("annotations", mark),
                &["--net=none"],
            )?;
        }
        Ok(())
    })
}

fn kill_during_the_start_leaves_what_gc_takes() -> Result<()> {
    both(|driver, overlay| {
        for file in ["subcgroup", "runtime-config", "ppid"] {
            let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
            let started = pod.start(&["--net=none"])?;
            tests::wait::for_path(&pod.dir().join(file), Some(BOUND))?;
            // Killed there; whatever has been started by then is stopped as a stage0 would stop it.
            drop(started);
            pod.stop(&["--force"])?.expect(0)?;
        }
        Ok(())
    })
}

fn a_kernel_without_a_call_is_refused() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(driver, false, [server()])?)?;
        let command = without("openat2", &pod.run_command(&[])?);
        let line = "init: the system call openat2 is missing: pods need Linux 5.6 or later, and no filter that hides it\n";
        assert_eq!(run(command)?.expect(254)?.stderr, line);
        Ok(())
    })
}
