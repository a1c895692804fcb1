//! Apps that come and go in a running pod.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, Driver, Pod, PodSpec, Propagation, in_mounts};
use tests::process::BOUND;

use crate::common::out;

tests::cases!("apps":
    come_and_go_where_mounts_are_shared,
    come_and_go_where_mounts_are_private,
    starts_that_fail_say_why,
    are_attached_to_as_rkt_does_it,
);

/// Runs a test with an empty mutable pod, laid out in both ways.
pub(crate) fn with_sandbox(test: impl Fn(&Driver, &Pod) -> Result<()>) -> Result<()> {
    crate::common::both(|driver, overlay| sandbox(driver, overlay, &test))
}

/// Runs a test with an empty mutable pod.
pub(crate) fn sandbox(
    driver: &Driver,
    overlay: bool,
    test: impl Fn(&Driver, &Pod) -> Result<()>,
) -> Result<()> {
    let mark = json!([{ "name": "coreos.com/rkt/stage1/mutable", "value": "true" }]);
    let data = driver.path("data-volume");
    fs::create_dir_all(&data)?;
    let volumes = json!([
        { "name": "out", "kind": "host", "source": out(driver)? },
        { "name": "data", "kind": "host", "source": data },
        // A mode that no directory has by itself.
        { "name": "shared", "kind": "empty", "mode": "0751" },
    ]);
    let spec = PodSpec::new(overlay, [])
        .with("annotations", mark)
        .with("volumes", volumes);
    let pod = driver.pod_in_run(spec)?;
    let started = pod.start(&["--net=none"])?;
    pod.wait_ready()?;
    let tested = test(driver, &pod);
    let stopped = pod.stop(&[])?;
    tested?;
    stopped.expect(0)?;
    started.process.finish()?.expect(0)?;
    Ok(())
}

/// An app that sees `/out`, `/data` and `/shared`.
pub(crate) fn app(name: &str, steps: &[&str]) -> AppSpec {
    let mount = |volume: &str| json!({ "volume": volume, "path": format!("/{volume}") });
    AppSpec::probe(name, steps).with(
        "mounts",
        json!([mount("out"), mount("data"), mount("shared")]),
    )
}

/// Steps of an app that writes into its volumes, says that it has started, and ends well when it is told to.
fn serving(name: &str) -> Vec<String> {
    let steps = format!(
        "do append /data/lines line + append /shared/lines line + write /out/{name} up + until-term + exit 0"
    );
    steps.split(' ').map(str::to_owned).collect()
}

fn server(name: &str) -> AppSpec {
    let steps = serving(name);
    app(name, &steps.iter().map(String::as_str).collect::<Vec<_>>())
}

fn wait_started(driver: &Driver, name: &str) -> Result<()> {
    let file = out(driver)?.join(name);
    tests::wait::for_path(&file, Some(BOUND))?;
    fs::remove_file(&file).context("start again")
}

/// The pod's mounts that this thread sees, and all that the pod sees. Other tests' mounts come and go at the same time.
pub(crate) fn mounts(pod: &Pod) -> Result<(Vec<String>, Vec<String>)> {
    let mut outside = mounts_seen_by("thread-self")?;
    outside.retain(|line| line.contains(&pod.uuid));
    Ok((outside, mounts_seen_by(&pod.pid1()?.to_string())?))
}

fn mounts_seen_by(process: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new("/proc").join(process).join("mountinfo"))?;
    // From the fourth column on: without the ids, which are others each time.
    let line = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    Ok(text.lines().map(line).collect())
}

fn come_and_go_where_mounts_are_shared() -> Result<()> {
    in_mounts(Propagation::Shared, || with_sandbox(come_and_go))
}

fn come_and_go_where_mounts_are_private() -> Result<()> {
    in_mounts(Propagation::Private, || with_sandbox(come_and_go))
}

fn come_and_go(driver: &Driver, pod: &Pod) -> Result<()> {
    let data = driver.path("data-volume/lines");
    let before = mounts(pod)?;
    pod.add_app(server("other"), &[])?.expect(0)?;
    for round in 1..=3_usize {
        pod.add_app(server("a"), &[])?.expect(0)?;
        for _ in 0..2 {
            pod.start_app("a")?.expect(0)?;
            wait_started(driver, "a")?;
            pod.app("app/start", "a", &[])?.expect(0)?;
            ensure!(
                !pod.statuses()?.contains_key("a"),
                "a status of a running app"
            );
            pod.app("app/rm", "a", &[])?
                .expect_refusal(&["app a runs"])?;
            pod.app("app/stop", "a", &[])?.expect(0)?;
            assert_eq!(pod.statuses()?["a"], 0);
            pod.app("app/stop", "a", &[])?.expect(0)?;
        }
        pod.remove_app("a")?;
        let lines = fs::read_to_string(&data).context("the volume's data is lost")?;
        assert_eq!(lines.matches("line").count(), 2 * round, "{lines}");
    }
    pod.start_app("other")?.expect(0)?;
    wait_started(driver, "other")?;
    pod.app("app/stop", "other", &["--force"])?.expect(0)?;
    assert_eq!(pod.statuses()?["other"], 137);
    pod.remove_app("other")?;
    assert_eq!(mounts(pod)?, before, "mounts outside and inside");
    for folder in [
        "rkt/env",
        "rkt/spec",
        "rkt/seccomp",
        "rkt/volumes",
        "rkt/status",
    ] {
        let folder = pod.root().join(folder);
        if folder.exists() {
            let left: Vec<_> = fs::read_dir(&folder)?.flatten().map(|e| e.path()).collect();
            ensure!(left.is_empty(), "{left:?}");
        }
    }
    Ok(())
}

fn starts_that_fail_say_why() -> Result<()> {
    with_sandbox(|_, pod| {
        let mut missing = app("missing", &[]);
        missing.app = Some(json!({ "exec": ["/none"], "user": "0", "group": "0" }));
        pod.add_app(missing, &[])?.expect(0)?;
        pod.start_app("missing")?.expect_refusal(&[
            "app-start: app missing: ",
            "/none",
            "No such file",
        ])?;
        assert_eq!(pod.statuses()?["missing"], 203);
        let mut handler = app("handler", &[]);
        let event = json!([{ "name": "pre-start", "exec": ["/probe", "exit", "3"] }]);
        handler.app = Some(json!({
            "exec": ["/probe", "hang"], "user": "0", "group": "0", "eventHandlers": event,
        }));
        pod.add_app(handler, &[])?.expect(0)?;
        pod.start_app("handler")?
            .expect_refusal(&["app-start: app handler: ", "before its program"])?;
        pod.app("app/start", "nobody", &[])?
            .expect_refusal(&["the pod has no app nobody"])?;
        pod.app("app/stop", "nobody", &[])?.expect(0)?;
        pod.remove_app("missing")?;
        pod.remove_app("handler")
    })
}

/// What an existing rkt gives the entrypoint, the caller's streams being a null device and pipes.
fn are_attached_to_as_rkt_does_it() -> Result<()> {
    with_sandbox(|_, pod| {
        let modes = json!([
            { "name": "coreos.com/rkt/stage2/stdin", "value": "stream" },
            { "name": "coreos.com/rkt/stage2/stdout", "value": "stream" },
        ]);
        let steps = ["do", "echo-line", "+", "echo-line"];
        let spec = app("a", &steps).with("annotations", modes);
        pod.add_app(spec, &[])?.expect(0)?;
        pod.start_app("a")?.expect(0)?;
        let attach = |options: &[&str]| pod.app("attach", "a", options);
        let endpoints = pod.read("stage1/rootfs/rkt/iottymux/a/endpoints")?;
        let endpoints: serde_json::Value = serde_json::from_str(&endpoints)?;
        let target = |name: &str| {
            let address = format!("/rkt/iottymux/a/sock-{name}");
            json!({ "name": name, "domain": "unix", "address": address })
        };
        let targets = [target("stdin"), target("stdout")];
        assert_eq!(endpoints, json!({ "version": 1, "targets": targets }));
        assert_eq!(
            attach(&["--action=list"])?.expect(0)?.stdout,
            "stdin\nstdout\n"
        );
        let refused = ["--action=custom-attach", "--tty-in=true", "--stdin=false"];
        attach(&refused)?.expect_refusal(&["--tty-in: app a", "it has stdin, stdout"])?;
        // The end of the caller's input is that of the app's.
        let finished = attach(&["--action=auto-attach"])?.expect(0)?;
        assert_eq!(finished.stdout, "echo: \necho: \n");
        pod.remove_app("a")?;
        ensure!(
            !pod.root().join("rkt/iottymux/a").exists(),
            "its endpoints are left"
        );
        Ok(())
    })
}
