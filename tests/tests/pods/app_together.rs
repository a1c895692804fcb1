//! Several commands at once on one pod: some serial order, no deadlock, and each tells the truth.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::fixture::{App, Fixture, Sandbox, with};
use tests::process::{Finished, Running};

tests::cases!("app_together":
    changes_happen_in_some_order,
    the_pod_ends_in_the_middle,
);

/// Runs commands at the same time.
fn together(fixture: &Fixture, commands: &[Vec<String>]) -> Result<Vec<Finished>> {
    let running = commands.iter().map(|words| fixture.start(words));
    let running = running.collect::<Result<Vec<Running>>>()?;
    running.into_iter().map(Running::finish).collect()
}

fn app(pod: &Sandbox<'_>, verb: &str, app: &str, options: &[&str]) -> Vec<String> {
    let words = ["app", verb, &pod.uuid, &format!("--app={app}")];
    words
        .iter()
        .chain(options)
        .map(|word| (*word).to_owned())
        .collect()
}

fn names(fixture: &Fixture, uuid: &str) -> Result<Vec<String>> {
    let list: Vec<Value> =
        serde_json::from_str(&fixture.text(["app", "list", uuid, "--format=json"])?)?;
    let mut names: Vec<String> = list
        .iter()
        .map(|app| app["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn adding(pod: &Sandbox<'_>, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let apps = names
        .iter()
        .map(|name| App::probe(name, ["do", "until-term"]));
    apps.map(|app| pod.adding(&app)).collect()
}

fn changes_happen_in_some_order() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        let ended = together(fixture, &adding(&pod, &["a", "b", "c", "d", "a"])?)?;
        let (same, others) = ([&ended[0], &ended[4]], &ended[1..4]);
        ensure!(others.iter().all(|one| one.code() == 0), "{others:?}");
        let refused = same
            .iter()
            .filter(|one| one.stderr.contains("there is one of this name already"));
        ensure!(
            refused.count() == 1 && same.iter().any(|one| one.code() == 0),
            "{same:?}"
        );
        ensure!(names(fixture, &pod.uuid)? == ["a", "b", "c", "d"]);

        let mut words = adding(&pod, &["d"])?;
        words.push(app(&pod, "rm", "d", &[]));
        for name in ["a", "b", "a", "c"] {
            words.push(app(&pod, "start", name, &[]));
        }
        let ended = together(fixture, &words)?;
        ensure!(ended[1..].iter().all(|one| one.code() == 0), "{ended:?}");
        let all = names(fixture, &pod.uuid)?;
        ensure!(
            all.contains(&"d".to_owned()) == (ended[0].code() == 0),
            "{all:?}: {ended:?}"
        );

        let words = [
            app(&pod, "stop", "a", &[]),
            app(&pod, "stop", "a", &["--force"]),
            app(&pod, "rm", "b", &["--force"]),
            app(&pod, "start", "c", &[]),
        ];
        let ended = together(fixture, &words)?;
        ensure!(ended.iter().all(|one| one.code() == 0), "{ended:?}");
        ensure!(pod.status("c")?["state"] == "running" && pod.status("a")?["state"] != "running");
        ensure!(!names(fixture, &pod.uuid)?.contains(&"b".to_owned()));
        pod.stop()?;
        Ok(())
    })
}

fn the_pod_ends_in_the_middle() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        pod.run(&App::probe("first", ["do", "until-term"]))?;
        let mut words = adding(&pod, &["a", "b", "c"])?;
        words.push(vec!["stop".to_owned(), pod.uuid.clone()]);
        words.push(app(&pod, "start", "first", &[]));
        words.extend(adding(&pod, &["d", "e"])?);
        let mut ended = together(fixture, &words)?;
        ended.remove(3).expect(0).context("stop")?;
        ended.remove(3);
        fixture.text(["status", "--wait", &pod.uuid])?;
        let there = names(fixture, &pod.uuid)?;
        for (name, add) in ["a", "b", "c", "d", "e"].into_iter().zip(ended) {
            let is_there = there.iter().any(|other| other == name);
            ensure!(
                is_there == (add.code() == 0),
                "{name}: {there:?} after {add}"
            );
            if add.code() != 0 {
                add.expect_refusal(&["stage0: "])?;
            }
        }
        Ok(())
    })
}
