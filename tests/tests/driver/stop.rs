//! The stop entrypoint, whatever the pod does just then.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, Call, Driver, Pod};
use tests::process::{BOUND, Running};

use crate::common::{out, server, spec, wait_server};

tests::cases!("stop":
    of_a_starting_pod,
    by_the_file_of_pid_1,
    twice_at_once,
    of_a_stopping_pod,
    of_a_pod_that_is_gone,
    in_order,
);

/// Nothing of the pod is alive when stop has returned.
fn is_gone(pod: &Pod) -> Result<()> {
    ensure!(!pod.is_locked()?, "the lock is held");
    let alive = pod.processes()?;
    ensure!(alive.is_empty(), "processes live on: {alive:?}");
    Ok(())
}

fn in_background(pod: &Pod, options: &[&str]) -> Result<Running> {
    let words = options.iter().copied().chain([pod.uuid.as_str()]);
    Running::start(pod.command("stop", Call::OfPod, words)?, Stdio::null())
}

/// Stopped as soon as there is the lock, its cgroup, its pid, its PID 1.
fn of_a_starting_pod() -> Result<()> {
    tests::driver::with(|driver| {
        for options in [&[][..], &["--force"]] {
            for file in [
                "pod",
                "subcgroup",
                "ppid",
                "stage1/rootfs/rkt/supervisor-status",
            ] {
                let stop_at = || -> Result<()> {
                    let pod = driver.pod_in_run(spec(driver, true, [server()])?)?;
                    let run = pod.start(&["--net=none"])?;
                    tests::wait::for_path(&pod.dir().join(file), Some(BOUND))?;
                    pod.stop(options)?.expect(0)?;
                    is_gone(&pod)?;
                    run.process.finish()?;
                    Ok(())
                };
                stop_at().with_context(|| format!("{options:?} when there is {file}"))?;
            }
        }
        Ok(())
    })
}

/// A stage1 may write the pid of PID 1 itself, in another file.
fn by_the_file_of_pid_1() -> Result<()> {
    tests::driver::with(|driver| {
        for options in [&[][..], &["--force"]] {
            let pod = driver.pod_in_run(spec(driver, true, [server()])?)?;
            let run = pod.start(&["--net=none"])?;
            wait_server(driver)?;
            fs::write(pod.dir().join("pid"), pod.pid1()?.to_string())?;
            fs::remove_file(pod.dir().join("ppid"))?;
            pod.stop(options)?.expect(0)?;
            is_gone(&pod)?;
            run.process.finish()?;
            fs::remove_file(out(driver)?.join("ready"))?;
        }
        Ok(())
    })
}

fn twice_at_once() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(driver, true, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        let both = [in_background(&pod, &[])?, in_background(&pod, &[])?];
        for stop in both {
            stop.finish()?.expect(0)?;
        }
        is_gone(&pod)?;
        let finished = run.process.finish()?.expect(0)?;
        assert_eq!(finished.console("server"), ["got SIGTERM"]);
        ensure!(out(driver)?.join("stopped").exists(), "killed: {finished}");
        Ok(())
    })
}

/// An app that takes its time to end: until `/out/go` is there.
fn slow_server(driver: &Driver) -> Result<AppSpec> {
    let words = "do write /out/ready x + until-term + write /out/stopping x + wait-file /out/go \
        + write /out/stopped x";
    for file in ["ready", "stopping", "go", "stopped"] {
        // There is none the first time.
        let _ = fs::remove_file(out(driver)?.join(file));
    }
    Ok(AppSpec::probe(
        "server",
        &words.split_whitespace().collect::<Vec<_>>(),
    ))
}

fn of_a_stopping_pod() -> Result<()> {
    tests::driver::with(|driver| {
        for force in [false, true] {
            let pod = driver.pod_in_run(spec(driver, true, [slow_server(driver)?])?)?;
            let run = pod.start(&["--net=none"])?;
            wait_server(driver)?;
            let first = in_background(&pod, &[])?;
            tests::wait::for_path(&out(driver)?.join("stopping"), Some(BOUND))?;
            if force {
                pod.stop(&["--force"])?.expect(0)?;
            } else {
                let second = in_background(&pod, &[])?;
                fs::write(out(driver)?.join("go"), "")?;
                second.finish()?.expect(0)?;
            }
            is_gone(&pod)?;
            first.finish()?.expect(0)?;
            let ended = run.process.finish()?;
            assert_eq!(ended.code() != 0, force, "{ended}");
            assert_eq!(out(driver)?.join("stopped").exists(), !force, "{ended}");
        }
        Ok(())
    })
}

fn of_a_pod_that_is_gone() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(driver, true, [AppSpec::probe("a", &["exit", "0"])])?)?;
        let stop_both = || -> Result<()> {
            pod.stop(&[])?.expect(0)?;
            pod.stop(&["--force"])?.expect(0)?;
            Ok(())
        };
        stop_both().context("before it ran")?;
        pod.run(&["--net=none"])?.expect(0)?;
        stop_both().context("after its end")?;
        pod.gc(&[])?.expect(0)?;
        stop_both().context("after gc")?;
        // Its number is another process's now.
        let stranger = std::process::id().to_string();
        fs::write(pod.dir().join("ppid"), stranger)?;
        stop_both().context("with the pid of a stranger")
    })
}

/// The app is told first, its post-stop handler runs then, and all that both have said is shown and kept.
fn in_order() -> Result<()> {
    tests::driver::with(|driver| {
        let words = "do write /out/ready x + until-term + lines 300 + print end";
        let mut app = AppSpec::probe("server", &words.split_whitespace().collect::<Vec<_>>());
        let note = json!(["/probe", "do", "lines", "200", "+", "print", "handled"]);
        let section = app.app.as_mut().context("the app's section")?;
        section["eventHandlers"] = json!([{ "name": "post-stop", "exec": note }]);
        let pod = driver.pod_in_run(spec(driver, false, [app])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        pod.stop(&[])?.expect(0)?;
        is_gone(&pod)?;
        assert_eq!(pod.statuses()?["server"], 0);
        let finished = run.process.finish()?.expect(0)?;
        let lines = |count: u32| (1..=count).map(move |line| format!("line {line} of {count}"));
        let others = ["got SIGTERM", "end", "handled"].map(str::to_owned);
        let expected: BTreeSet<_> = others
            .into_iter()
            .chain(lines(300))
            .chain(lines(200))
            .collect();
        // The handler has a stream of its own, and journald reads them in turns.
        let shown = finished.console("server").into_iter().map(str::to_owned);
        let missing: Vec<_> = expected.difference(&shown.collect()).cloned().collect();
        ensure!(missing.is_empty(), "not shown: {missing:?}");
        let kept = journal(&pod.root().join("var/log/journal"))?;
        let kept = kept.lines().map(str::to_owned).collect();
        let missing: Vec<_> = expected.difference(&kept).cloned().collect();
        ensure!(missing.is_empty(), "not kept: {missing:?}");
        Ok(())
    })
}

/// What the app has said, as its pod's journal has it.
fn journal(dir: &Path) -> Result<String> {
    let mut command = std::process::Command::new("journalctl");
    command.args(["--quiet", "--output=cat", "SYSLOG_IDENTIFIER=server"]);
    let mut logs = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let log = logs.next().context("there is no journal")??;
    command.arg("--directory").arg(log.path());
    Ok(tests::process::run(command)?.expect(0)?.stdout)
}
