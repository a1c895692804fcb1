//! stage0's commands that end and remove pods: stop, rm, gc.

use anyhow::{Result, ensure};
use tests::fixture::{App, with};
use tests::process::BOUND;

use crate::common::{start_server, status};

tests::cases!("ending":
    stop_is_orderly,
    stop_by_force_kills,
    stop_of_an_exited_pod,
    remove_refuses_a_running_pod,
    gc_keeps_young_pods,
    gc_takes_old_ones,
    gc_expires_prepared_pods,
);

fn stop_is_orderly() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = running.finish()?.expect(0)?;
        ensure!(
            fixture.out("stopped").exists(),
            "the app could not finish: {finished}"
        );
        assert_eq!(finished.console("server"), ["got SIGTERM"]);
        Ok(())
    })
}

fn stop_of_an_exited_pod() -> Result<()> {
    with(|fixture| {
        let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        fixture
            .stage0(["stop", &uuid])?
            .expect_refusal(&[&uuid[..8]])?;
        fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        fixture
            .stage0(["stop", &uuid])?
            .expect_refusal(&[&uuid[..8]])?;
        Ok(())
    })
}

fn remove_refuses_a_running_pod() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        fixture
            .stage0(["rm", &uuid])?
            .expect_refusal(&[&uuid[..8]])?;
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        assert_eq!(status(fixture, &uuid)?["state"], "running");
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        fixture.stage0(["rm", &uuid])?.expect(0)?;
        ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
        Ok(())
    })
}

fn gc_keeps_young_pods() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::probe("a", ["exit", "5"])])
            .run()?
            .expect(5)?;
        let uuid = fixture.only_pod()?;
        fixture.stage0(["gc", "--grace-period=1h"])?.expect(0)?;
        assert_eq!(status(fixture, &uuid)?["app-a"], "5");
        Ok(())
    })
}

fn gc_takes_old_ones() -> Result<()> {
    with(|fixture| {
        for options in [&[][..], &["--no-overlay"]] {
            let pod = fixture.pod([App::probe("a", ["exit", "5"])]);
            options
                .iter()
                .fold(pod, |pod, option| pod.option(*option))
                .run()?
                .expect(5)?;
        }
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
        Ok(())
    })
}

fn gc_expires_prepared_pods() -> Result<()> {
    with(|fixture| {
        let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        // A prepared pod waits to be run; the grace period is about pods that have ended.
        assert_eq!(status(fixture, &uuid)?["state"], "prepared");
        fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        Ok(())
    })
}

fn stop_by_force_kills() -> Result<()> {
    with(|fixture| {
        let stubborn = App::probe(
            "stubborn",
            [
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
        let (uuid, running) = fixture.pod([stubborn]).start_prepared(&[])?;
        tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
        fixture.stage0(["stop", "--force", &uuid])?.expect(0)?;
        running.finish()?;
        fixture.stage0(["status", "--wait", &uuid])?.expect(0)?;
        ensure!(
            fixture
                .leftovers()
                .iter()
                .all(|line| !line.starts_with("process")),
            "{:?}",
            fixture.leftovers()
        );
        Ok(())
    })
}
