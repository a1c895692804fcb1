//! Any process may die at any point, and the next command sees the truth.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::fixture::{App, Fixture, with};
use tests::process::{BOUND, Running};

use crate::common::{process_of_pod, start_server, status};

tests::cases!("death":
    of_the_supervisor,
    of_pid_1,
    of_an_app,
    of_stage0_at_each_step,
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
        kill_process(process_of_pod(&uuid, "probe")?, Signal::KILL)?;
        running.finish()?.expect(137)?;
        assert_eq!(status(fixture, &uuid)?["app-server"], "137");
        Ok(())
    })
}

fn of_stage0_at_each_step() -> Result<()> {
    with(|fixture| {
        let command = || {
            fixture
                .pod([App::probe(
                    "a",
                    ["do", "write", "/out/ran", "", "+", "exit", "0"],
                )])
                .command()
        };
        // The first makes the directories that are watched, and everything is in the store then.
        tests::process::run(command()?)?.expect(0)?;
        for (step, place) in PLACES.iter().enumerate() {
            let _ = fs::remove_file(fixture.out("ran"));
            let uuid =
                kill_at(fixture, step, command()?).with_context(|| format!("killed at {place}"))?;
            let state = status(fixture, &uuid)?["state"].clone();
            ensure!(
                ["embryo", "aborted", "prepared", "exited", "running"].contains(&state.as_str()),
                "{place}: {state}"
            );
            if state == "running" {
                let stopped = fixture.stage0(["stop", "--force", &uuid])?;
                // The app ends by itself, and may have done so meanwhile.
                if stopped.code() != 0 {
                    stopped.expect_refusal(&[&uuid, "it is exited"])?;
                }
            }
            if state == "prepared" {
                fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
                ensure!(fixture.out("ran").exists(), "{place}: the pod did not run");
            }
            fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
            ensure!(fixture.pods().is_empty(), "{place}: {:?}", fixture.pods());
            ensure!(
                fixture.leftovers().is_empty(),
                "{place}: {:?}",
                fixture.leftovers()
            );
        }
        Ok(())
    })
}

/// The places that a pod passes on its way.
const PLACES: [&str; 4] = ["embryo", "prepare", "prepared", "run"];

/// Kills a `stage0 run` as soon as its pod has come to a place, or beyond; gives the pod.
fn kill_at(fixture: &Fixture, step: usize, command: std::process::Command) -> Result<String> {
    let known = fixture.pods();
    let come = || {
        let there = |place: &str| PLACES[step..].contains(&place);
        fixture
            .pods()
            .into_iter()
            .find(|pod| there(&pod.0) && !known.contains(pod))
            .map(|pod| pod.1)
    };
    let watched = fixture.data().join("pods").join(PLACES[step]).join("any");
    let running = Running::start(command, std::process::Stdio::null())?;
    tests::wait::for_file(&watched, Some(BOUND), |_| come().is_some())?;
    drop(running);
    come().context("the pod is gone")
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
