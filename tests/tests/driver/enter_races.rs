//! Entering pods that are just starting and ending: whatever a pid stands for then, nothing runs on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use tests::driver::{AppSpec, Call, PodSpec, Run};
use tests::process::{Finished, run};

tests::cases!("enter_races":
    never_on_the_host,
);

/// How often it is entered.
const TIMES: u32 = 1000;
/// How many at a time.
const AT_ONCE: usize = 4;

fn never_on_the_host() -> Result<()> {
    tests::driver::with(|driver| {
        // A program of the host's that no pod has: where it runs, it leaves a mark.
        let (program, mark) = (driver.path("program"), driver.path("mark"));
        fs::write(&program, format!("#!/bin/sh\n: >{}\n", mark.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let (entered, inside) = (AtomicU32::new(0), AtomicU32::new(0));
        while entered.load(Ordering::Relaxed) < TIMES {
            let pod =
                driver.pod_in_run(PodSpec::new(false, [AppSpec::probe("a", &["exit", "0"])]))?;
            let Run { process } = pod.start(&["--net=none"])?;
            let supervisor = process.pid().as_raw_nonzero().get();
            let template = pod.command("enter", Call::OfPod, [] as [&str; 0])?;
            let ended = AtomicBool::new(false);
            let enter_once = |pid: i32, of_app: bool| -> Result<()> {
                let finished = try_to_enter(&template, pid, of_app, &program)?;
                ensure!(!mark.exists(), "on the host: {finished}");
                // Not found, where it was entered; else a refusal. A pod's end kills what was entered.
                ensure!([127, 137, 254].contains(&finished.code()), "{finished}");
                entered.fetch_add(1, Ordering::Relaxed);
                inside.fetch_add(u32::from(finished.code() == 127), Ordering::Relaxed);
                Ok(())
            };
            let enter = |thread: usize| -> Result<()> {
                let mut last = Vec::new();
                if thread == 0 {
                    // Waited for until it ends, because it could become a PID 1.
                    enter_once(supervisor, false)?;
                }
                while !ended.load(Ordering::Relaxed) {
                    let now = children(supervisor);
                    now.iter()
                        .try_for_each(|pid| enter_once(*pid, thread % 2 == 0))?;
                    if !now.is_empty() {
                        last = now;
                    }
                }
                last.iter().try_for_each(|pid| enter_once(*pid, true))
            };
            let enter = &enter;
            let outcome: Result<()> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_ONCE)
                    .map(|thread| scope.spawn(move || enter(thread)))
                    .collect();
                let finished = process.finish();
                ended.store(true, Ordering::Relaxed);
                let joined = threads.into_iter().map(|thread| {
                    let outcome = thread.join();
                    outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
                });
                joined.collect::<Result<()>>()?;
                finished?.expect(0).map(drop)
            });
            outcome?;
            pod.collect()?;
        }
        ensure!(
            inside.load(Ordering::Relaxed) > 0,
            "no pod was ever entered"
        );
        Ok(())
    })
}

/// What a stage0 may take for the pod's PID 1 while that comes and goes, sometimes wrongly.
fn children(supervisor: i32) -> Vec<i32> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    children.collect()
}

fn try_to_enter(template: &Command, pid: i32, of_app: bool, program: &Path) -> Result<Finished> {
    let mut command = Command::new(template.get_program());
    command.current_dir(template.get_current_dir().context("no directory")?);
    command.arg(format!("--pid={pid}"));
    command.args(of_app.then_some("--appname=a"));
    command.arg("--").arg(program);
    run(command)
}
