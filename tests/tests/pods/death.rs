//! Any process may die at any point, and the next command sees the truth.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::fixture::{App, Fixture, with};
use tests::process::{BOUND, Running};

use crate::common::{start_server, status};

tests::cases!("death":
    of_the_supervisor,
    of_pid_1,
    of_an_app,
    of_stage0_while_preparing,
    of_the_run_by_sigterm,
    gc_after_the_supervisors,
);

/// The parent of the pod's PID 1.
fn supervisor(fixture: &Fixture, uuid: &str) -> Result<Pid> {
    let text = fs::read_to_string(fixture.pod_dir(uuid)?.join("ppid")).context("read ppid")?;
    Pid::from_raw(text.trim().parse()?).context("a pid")
}

fn of_the_supervisor() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        kill_process(supervisor(fixture, &uuid)?, Signal::KILL)?;
        // The pod lives on without its supervisor and its console: it must not be taken for an exited one.
        drop(running);
        assert_eq!(status(fixture, &uuid)?["state"], "running");
        fixture.stage0(["rm", &uuid])?.expect(254)?;
        fixture.stage0(["stop", "--force", &uuid])?.expect(0)?;
        assert_eq!(status(fixture, &uuid)?["state"], "exited");
        fixture.stage0(["rm", &uuid])?.expect(0)?;
        ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
        Ok(())
    })
}

fn gc_after_the_supervisors() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        kill_process(supervisor(fixture, &uuid)?, Signal::KILL)?;
        drop(running);
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        assert_eq!(
            status(fixture, &uuid)?["state"],
            "running",
            "gc must not take a pod that lives"
        );
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        fixture.stage0(["status", "--wait", &uuid])?.expect(0)?;
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
        Ok(())
    })
}

fn of_pid_1() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        let pid: i32 = status(fixture, &uuid)?["pid"].parse()?;
        kill_process(Pid::from_raw(pid).context("a pid")?, Signal::KILL)?;
        ensure!(
            running.finish()?.code() != 0,
            "a pod that was killed has not ended well"
        );
        assert_eq!(status(fixture, &uuid)?["state"], "exited");
        fixture.stage0(["rm", &uuid])?.expect(0)?;
        Ok(())
    })
}

fn of_an_app() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse::<i32>().ok()?;
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            let command = fs::read_to_string(entry.path().join("comm")).ok()?;
            (cgroup.contains(&uuid) && command.trim() == "probe").then_some(pid)
        });
        let pid = processes.last().context("no process of the app")?;
        kill_process(Pid::from_raw(pid).context("a pid")?, Signal::KILL)?;
        running.finish()?.expect(137)?;
        assert_eq!(status(fixture, &uuid)?["app-server"], "137");
        Ok(())
    })
}

fn of_stage0_while_preparing() -> Result<()> {
    with(|fixture| {
        let command = || fixture.pod([App::probe("a", ["exit", "0"])]).command();
        let Some(uuid) = caught_preparing(fixture, command)? else {
            return Ok(());
        };
        let state = status(fixture, &uuid)?["state"].clone();
        ensure!(
            ["embryo", "aborted", "prepared", "exited"].contains(&state.as_str()),
            "{state}"
        );
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        ensure!(
            fixture
                .pods()
                .iter()
                .all(|(state, _)| state == "prepared" || state == "run"),
            "{:?}",
            fixture.pods()
        );
        Ok(())
    })
}

/// Kills a `stage0 run` as soon as its pod directory appears; gives the pod.
fn caught_preparing(
    fixture: &Fixture,
    command: impl Fn() -> Result<std::process::Command>,
) -> Result<Option<String>> {
    // The first makes the directories that are watched.
    tests::process::run(command()?)?.expect(0)?;
    let known = fixture.pods();
    let dir = fixture.data().join("pods/embryo");
    fs::create_dir_all(&dir)?;
    let running = Running::start(command()?, std::process::Stdio::null())?;
    let new = || {
        fixture
            .pods()
            .into_iter()
            .find(|pod| !known.iter().any(|(_, uuid)| *uuid == pod.1))
    };
    tests::wait::for_file(&dir.join("any"), Some(BOUND), |_| new().is_some())?;
    drop(running);
    Ok(new().map(|(_, uuid)| uuid))
}

fn of_the_run_by_sigterm() -> Result<()> {
    with(|fixture| {
        for signal in [Signal::TERM, Signal::INT] {
            let (uuid, running) = start_server(fixture)?;
            running.signal(signal)?;
            // What a user means by Ctrl-C, or a service manager by its stop: in order.
            running.finish()?.expect(0)?;
            ensure!(
                fixture.out("stopped").exists(),
                "{signal:?}: the app could not finish"
            );
            assert_eq!(status(fixture, &uuid)?["app-server"], "0");
            fs::remove_file(fixture.out("ready"))?;
            fs::remove_file(fixture.out("stopped"))?;
        }
        Ok(())
    })
}
