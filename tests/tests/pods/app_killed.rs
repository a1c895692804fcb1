//! stage0 killed at any point of a change: the next command works, and what was half done is undone or finished by it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tests::fixture::{App, Fixture, Sandbox, with};
use tests::footprint::Footprint;
use tests::process::killed_at;

use crate::common::stride;

tests::cases!("app_killed":
    adding,
    adding_without_overlay,
    removing
    ; with users:
    adding,
);

/// What the pod is like without the app, and the words that add it.
fn prepare<'f>(fixture: &'f Fixture, options: &[&str]) -> Result<(Sandbox<'f>, Vec<String>)> {
    let pod = fixture.sandbox(options)?;
    let words = pod.adding(&App::probe("a", ["do", "exit", "0"]))?;
    // Makes folders that stay, and renders the tree of the image.
    pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
    fixture.text(&words)?;
    pod.app("rm", "a", &[])?.expect(0)?;
    Ok((pod, words))
}

fn kill_each_addition(fixture: &Fixture, options: &[&str]) -> Result<()> {
    let (pod, words) = prepare(fixture, options)?;
    let before = Footprint::of(&pod.dir())?;
    let mut point = 0;
    while killed_at(&fixture.command(&words), point)? {
        let context = || format!("killed at change {point} of the addition");
        // It works as if nothing had been.
        fixture.text(&words).with_context(context)?;
        pod.app("start", "a", &[])?
            .expect(0)
            .with_context(context)?;
        pod.app("rm", "a", &["--force"])?
            .expect(0)
            .with_context(context)?;
        before.expect_in(&pod.dir()).with_context(context)?;
        point += stride();
    }
    // The last one was not killed.
    ensure!(point > 10, "only {point} changes are known of an addition");
    ensure!(fs::read_to_string(pod.dir().join("pod"))?.contains("\"a\""));
    pod.stop()?;
    Ok(())
}

fn adding() -> Result<()> {
    with(|fixture| kill_each_addition(fixture, &[]))
}

fn adding_without_overlay() -> Result<()> {
    with(|fixture| kill_each_addition(fixture, &["--no-overlay"]))
}

fn removing() -> Result<()> {
    with(|fixture| {
        let (pod, words) = prepare(fixture, &[])?;
        let before = Footprint::of(&pod.dir())?;
        let remove = ["app", "rm", &pod.uuid, "--app=a"];
        let mut point = 0;
        loop {
            let context = || format!("killed at change {point} of the removal");
            fixture.text(&words).with_context(context)?;
            if !killed_at(&fixture.command(remove), point)? {
                break;
            }
            let again = fixture.stage0(remove)?;
            if again.code() != 0 {
                // Finished before it was looked for.
                again
                    .expect_refusal(&["there is no such app"])
                    .with_context(context)?;
            }
            before.expect_in(&pod.dir()).with_context(context)?;
            point += stride();
        }
        ensure!(point > 10, "only {point} changes are known of a removal");
        before.expect_in(&pod.dir())?;
        pod.stop()?;
        Ok(())
    })
}
