//! The lives of apps that come and go: started, stopped, started again, removed, added again; and what is told of them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use tests::fixture::{App, Sandbox, with};
use tests::footprint::Footprint;
use tests::leftovers::Marks;
use tests::process::BOUND;
use tests::wait;

use crate::common::many;

tests::cases!("app_life":
    from_addition_to_removal,
    ends_are_told,
    a_pod_outlives_its_apps_and_takes_them_along,
    many_times_the_same,
    removal_finds_who_has_left_the_cgroup,
);

/// Writes its start into a file and runs until it is stopped.
fn server(name: &str) -> App {
    let (ready, stopped) = (format!("/out/{name}-ready"), format!("/out/{name}-stopped"));
    let words = [
        "do",
        "append",
        &ready,
        "x",
        "+",
        "until-term",
        "+",
        "append",
        &stopped,
        "x",
    ];
    App::probe(name, words)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn states(pod: &Sandbox<'_>, fixture: &tests::fixture::Fixture) -> Result<Vec<(String, String)>> {
    let list = fixture.text(["app", "list", &pod.uuid, "--format=json"])?;
    let list: Vec<Value> = serde_json::from_str(&list)?;
    Ok(list
        .iter()
        .map(|app| (text(app, "name"), text(app, "state")))
        .collect())
}

fn from_addition_to_removal() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        // Makes folders that stay.
        pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
        let before = Footprint::of(&pod.dir())?;
        let web = server("web");
        ensure!(
            pod.add(&web)?.expect(0)?.stdout == "web\n",
            "the name is not printed"
        );
        let status = pod.status("web")?;
        ensure!(
            status["state"] == "created" && status["image"] == "example.com/web",
            "{status}"
        );
        // Stopping what does not run is no error.
        pod.app("stop", "web", &[])?.expect(0)?;
        for round in 1..=3 {
            pod.app("start", "web", &[])?.expect(0)?;
            let marks = "x".repeat(round);
            let whole = |file: &std::path::Path| fs::read_to_string(file).is_ok_and(|t| t == marks);
            wait::for_file(&fixture.out("web-ready"), Some(BOUND), whole)?;
            let status = pod.status("web")?;
            ensure!(
                status["state"] == "running" && status["exit_code"].is_null(),
                "{status}"
            );
            ensure!(
                status["cpu"].is_number() && status["started"].is_string(),
                "{status}"
            );
            // Once more changes nothing.
            pod.app("start", "web", &[])?.expect(0)?;
            pod.app("rm", "web", &[])?.expect_refusal(&[
                "remove app web",
                "it is running",
                "--force",
            ])?;
            pod.app("stop", "web", &[])?.expect(0)?;
            let status = pod.status("web")?;
            ensure!(
                status["state"] == "exited" && status["exit_code"] == 0,
                "{status}"
            );
            ensure!(
                fs::read_to_string(fixture.out("web-stopped"))? == marks,
                "not stopped in order"
            );
        }
        pod.app("rm", "web", &[])?.expect(0)?;
        let states = states(&pod, fixture)?;
        ensure!(states == [("first".into(), "created".into())], "{states:?}");
        before.expect_in(&pod.dir())?;
        // By force, and the same name with another program.
        pod.run(&server("web"))?;
        pod.app("rm", "web", &["--force"])?.expect(0)?;
        pod.run(&App::probe(
            "web",
            ["do", "print", "another one", "+", "exit", "0"],
        ))?;
        pod.ended("web")?;
        pod.app("rm", "web", &[])?.expect(0)?;
        before.expect_in(&pod.dir())?;
        let finished = pod.stop()?.expect(0)?;
        ensure!(
            finished.console("web").contains(&"another one"),
            "{finished}"
        );
        Ok(())
    })
}

fn ends_are_told() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        for (name, words) in [
            ("good", ["do", "exit", "0"]),
            ("bad", ["do", "exit", "7"]),
            ("killed", ["do", "kill", "KILL"]),
        ] {
            pod.run(&App::probe(name, words))?;
            pod.ended(name)?;
        }
        pod.run(&App::probe(
            "stubborn",
            [
                "do",
                "ignore-term",
                "+",
                "write",
                "/out/deaf",
                "",
                "+",
                "hang",
            ],
        ))?;
        wait::for_path(&fixture.out("deaf"), Some(BOUND))?;
        pod.app("stop", "stubborn", &["--force"])?.expect(0)?;
        pod.add(&App::probe("never", ["do", "hang"]))?.expect(0)?;
        for (name, state, code, signal) in [
            ("good", "exited", 0, ""),
            ("bad", "failed", 7, ""),
            ("killed", "failed", 137, "SIGKILL"),
            ("stubborn", "", 137, "SIGKILL"),
        ] {
            let status = pod.status(name)?;
            ensure!(state.is_empty() || status["state"] == state, "{status}");
            ensure!(
                status["exit_code"] == code && text(&status, "signal") == signal,
                "{status}"
            );
            ensure!(
                text(&status, "finished") >= text(&status, "started"),
                "{status}"
            );
        }
        let table = fixture.text(["app", "list", &pod.uuid])?;
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        ensure!(lines[0][..3] == ["NAME", "STATE", "ENDED"], "{table}");
        ensure!(lines.contains(&vec!["never", "created"]), "{table}");
        ensure!(
            lines
                .iter()
                .any(|line| line[..3] == ["killed", "failed", "SIGKILL"]),
            "{table}"
        );
        let lines = fixture.text(["app", "status", &pod.uuid, "--app=bad"])?;
        ensure!(
            lines.contains("state=failed\n") && lines.contains("exit_code=7\n"),
            "{lines}"
        );
        pod.stop()?;
        Ok(())
    })
}

fn a_pod_outlives_its_apps_and_takes_them_along() -> Result<()> {
    with(|fixture| {
        let volume = fixture.dir("kept")?;
        let pod = fixture.sandbox(&["--no-overlay"])?;
        let mount = format!(
            "--mnt-volume=name=v,kind=host,source={},target=/v",
            volume.display()
        );
        pod.run(&App::probe("fails", ["do", "exit", "3"]))?;
        pod.ended("fails")?;
        let words = [
            "do",
            "write",
            "/v/data",
            "kept",
            "+",
            "write",
            "/out/up",
            "",
            "+",
            "until-term",
        ];
        pod.run(&App::probe("writer", words).option(mount))?;
        wait::for_path(&fixture.out("up"), Some(BOUND))?;
        // A start that fails says why.
        let missing = App::probe("missing", [] as [&str; 0]).option("--exec=/not/there");
        pod.add(&missing)?.expect(0)?;
        pod.app("start", "missing", &[])?
            .expect_refusal(&["start app missing", "/not/there"])?;
        ensure!(
            pod.status("missing")?["state"] == "failed",
            "a failed start does not show"
        );
        ensure!(
            pod.status("writer")?["state"] == "running",
            "another app has suffered"
        );
        let uuid = pod.uuid.clone();
        pod.stop()?;
        let list = fixture.text(["app", "list", &uuid, "--no-legend"])?;
        ensure!(
            list.lines().count() == 3 && !list.contains("running"),
            "{list}"
        );
        fixture.text(["rm", &uuid])?;
        let data =
            fs::read_to_string(volume.join("data")).context("the volume has lost its data")?;
        ensure!(data == "kept");
        Ok(())
    })
}

fn many_times_the_same() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
        let app = App::probe("again", ["do", "exit", "0"]);
        let words = pod.adding(&app)?;
        let before = Footprint::of(&pod.dir())?;
        for _ in 0..many(30) {
            fixture.text(&words)?;
            pod.app("start", "again", &[])?.expect(0)?;
            pod.app("rm", "again", &["--force"])?.expect(0)?;
        }
        before.expect_in(&pod.dir())?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// A process that is in none of the app's cgroups: nobody knows it as the app's but by its root.
fn removal_finds_who_has_left_the_cgroup() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        // Makes folders that stay.
        pod.add(&App::probe("first", ["do", "hang"]))?.expect(0)?;
        let before = Footprint::of(&pod.dir())?;
        let child = "do spawn ignore-term , write /out/child x , hang + until-term";
        pod.run(&App::probe("a", child.split(' ')))?;
        wait::for_path(&fixture.out("child"), Some(BOUND))?;
        let child = move_child_away(&pod.uuid)?;
        pod.app("stop", "a", &[])?.expect(0)?;
        ensure!(!has_ended(&child)?, "it is still in a cgroup of the app");
        pod.app("rm", "a", &[])?.expect(0)?;
        ensure!(has_ended(&child)?, "it lives on");
        before.expect_in(&pod.dir())?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// Moves the child of the main process of app `a` to where the pod's PID 1 is, in every hierarchy.
fn move_child_away(uuid: &str) -> Result<OwnedFd> {
    let found = Marks::new([uuid], &[]).found();
    let cgroups = found.iter().filter_map(|line| line.strip_prefix("cgroup "));
    let own = cgroups.filter(|path| path.ends_with("/app-a.service"));
    let own: Vec<PathBuf> = own.map(PathBuf::from).collect();
    let read = |file: &Path| fs::read_to_string(file).with_context(|| file.display().to_string());
    let first = own.first().context("the app has no cgroup")?;
    let pids = read(&first.join("cgroup.procs"))?;
    let pids: Vec<&str> = pids.lines().collect();
    let is_child = |pid: &&&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| pids.contains(&parent.trim()))
    };
    let child = *pids.iter().find(is_child).context("no child")?;
    for dir in &own {
        let pod = dir.ancestors().nth(2).context("a cgroup of the pod")?;
        let scope = pod.join("init.scope");
        let target = if scope.exists() { &scope } else { pod };
        fs::write(target.join("cgroup.procs"), child)
            .with_context(|| format!("move {child} to {}", target.display()))?;
    }
    let pid = Pid::from_raw(child.parse()?).context("pid")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn has_ended(process: &OwnedFd) -> Result<bool> {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}
