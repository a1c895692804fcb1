//! stage0's commands on pods: prepare, run, list, status, cat-manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fixture::{App, with};

use crate::common::{start_server, status};

tests::cases!("commands":
    stage1_is_found_beside_the_program,
    data_directory_with_awkward_characters,
    data_directory_may_be_relative,
    prepare_and_run,
    prepared_pod_runs_once,
    status_tells_a_pods_life,
    status_waits,
    json_has_the_same_names,
    list_shows_all,
    prefix_of_a_uuid_will_do,
    ambiguous_or_unknown_prefix_is_an_error,
    manifest_is_shown,
    uuid_is_saved,
);

fn stage1_is_found_beside_the_program() -> Result<()> {
    with(|fixture| {
        let image = fixture.import(&tests::fixture::probe_image("a"))?;
        let run = |options: &[&str]| {
            let mut command =
                std::process::Command::new(tests::harness::build_dir().join("stage0"));
            command
                .arg("--dir")
                .arg(fixture.data())
                .args(options)
                .args(["run", &image, "--", "exit", "3"]);
            tests::process::run(command)
        };
        run(&[])?.expect(3)?;
        run(&["--stage1=/not/there"])?.expect_refusal(&["/not/there"])?;
        Ok(())
    })
}

fn data_directory_with_awkward_characters() -> Result<()> {
    with(|fixture| {
        // A line for each hierarchy that there is.
        let is_unified = || -> Result<bool> {
            let cgroups = fs::read_to_string("/proc/self/cgroup")?;
            Ok(cgroups.lines().count() == 1)
        };
        let before = is_unified()?;
        let id = fixture.import(&tests::fixture::probe_image("a"))?;
        let awkward = fixture.path("a b:c,d%n;e\"f'g$h\\i=é");
        fs::rename(fixture.data(), &awkward)?;
        // The fixture finds it at its place again.
        std::os::unix::fs::symlink(&awkward, fixture.data())?;
        let run = |option: &str, app: &[&str], status: i32| {
            let mut command =
                std::process::Command::new(tests::harness::build_dir().join("stage0"));
            command.arg("--dir").arg(&awkward);
            command.args(["run", option, &id]).args(app);
            tests::process::run(command)?.expect(status)
        };
        run("--no-overlay=false", &["--", "exit", "3"], 3)?;
        // Limits hold in any case.
        let allocate = ["--memory=48Mi", "--", "allocate", "96"];
        run("--no-overlay", &allocate, 128 + 9)?;
        let mut command = std::process::Command::new(tests::harness::build_dir().join("stage0"));
        command
            .arg("--dir")
            .arg(&awkward)
            .args(["gc", "--grace-period=0s"]);
        tests::process::run(command)?.expect(0)?;
        ensure!(is_unified()? == before, "a hierarchy of v1 was made");
        Ok(())
    })
}

fn data_directory_may_be_relative() -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&tests::fixture::probe_image("a"))?;
        let mut command = std::process::Command::new(tests::harness::build_dir().join("stage0"));
        command
            .current_dir(fixture.path(""))
            .args(["--dir=data", "run", &id, "--", "exit", "3"]);
        tests::process::run(command)?.expect(3)?;
        Ok(())
    })
}

fn prepare_and_run() -> Result<()> {
    with(|fixture| {
        let uuid = fixture.pod([App::probe("a", ["exit", "7"])]).prepare()?;
        ensure!(
            uuid.len() == 36 && uuid.split('-').map(str::len).eq([8, 4, 4, 4, 12]),
            "no UUID: {uuid:?}"
        );
        assert_eq!(status(fixture, &uuid)?["state"], "prepared");
        fixture.stage0(["run-prepared", &uuid])?.expect(7)?;
        assert_eq!(status(fixture, &uuid)?["app-a"], "7");
        Ok(())
    })
}

fn prepared_pod_runs_once() -> Result<()> {
    with(|fixture| {
        let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        fixture.stage0(["run-prepared", &uuid])?.expect(0)?;
        fixture
            .stage0(["run-prepared", &uuid])?
            .expect_refusal(&[&uuid[..8]])?;
        Ok(())
    })
}

fn status_tells_a_pods_life() -> Result<()> {
    with(|fixture| {
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (uuid, running) = start_server(fixture)?;
        let alive = status(fixture, &uuid)?;
        assert_eq!(alive["state"], "running");
        for name in ["created", "started", "pid"] {
            ensure!(alive.contains_key(name), "no {name} in {alive:?}");
        }
        ensure!(
            !alive.contains_key("exited") || alive["exited"] == "false",
            "{alive:?}"
        );
        let pid: u32 = alive["pid"].parse()?;
        let words = fs::read(format!("/proc/{pid}/status")).context("the pid is no process")?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let inner = words
            .lines()
            .find(|line| line.starts_with("NSpid:"))
            .context("NSpid")?;
        ensure!(
            inner.ends_with("\t1"),
            "pid {pid} is not the pod's PID 1: {inner}"
        );
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        let dead = status(fixture, &uuid)?;
        assert_eq!(dead["state"], "exited");
        assert_eq!(dead["app-server"], "0");
        assert_eq!(dead["created"], alive["created"]);
        ensure!(begin > 0 && dead.contains_key("started"), "{dead:?}");
        Ok(())
    })
}

fn status_waits() -> Result<()> {
    with(|fixture| {
        let (uuid, running) = start_server(fixture)?;
        let waiting = fixture.start(["status", "--wait", &uuid])?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = waiting.finish()?.expect(0)?;
        ensure!(
            finished.stdout.lines().any(|line| line == "state=exited"),
            "{finished}"
        );
        ensure!(
            finished.stdout.lines().any(|line| line == "app-server=0"),
            "{finished}"
        );
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn json_has_the_same_names() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::probe("a", ["exit", "3"])])
            .run()?
            .expect(3)?;
        let uuid = fixture.only_pod()?;
        let text = status(fixture, &uuid)?;
        let json: Value =
            serde_json::from_str(&fixture.text(["status", "--format", "json", &uuid])?)?;
        let json = json.as_object().context("an object")?;
        for name in text.keys() {
            ensure!(json.contains_key(name), "no {name} in {json:?}");
        }
        assert_eq!(json["state"], "exited");
        assert_eq!(json["app-a"], 3);
        Ok(())
    })
}

fn list_shows_all() -> Result<()> {
    with(|fixture| {
        let prepared = fixture
            .pod([App::probe("waiting", ["exit", "0"])])
            .prepare()?;
        let (uuid, running) = start_server(fixture)?;
        let text = fixture.text(["list"])?;
        let line = |uuid: &str| {
            text.lines()
                .find(|line| line.contains(&uuid[..8]))
                .with_context(|| format!("{uuid} in {text}"))
        };
        ensure!(
            line(&prepared)?.contains("prepared") && line(&uuid)?.contains("running"),
            "{text}"
        );
        let list: Value = serde_json::from_str(&fixture.text(["list", "--format", "json"])?)?;
        let states: BTreeMap<_, _> = list
            .as_array()
            .context("a list")?
            .iter()
            .map(|pod| {
                (
                    pod["uuid"].as_str().unwrap_or_default(),
                    pod["state"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(
            states,
            BTreeMap::from([(prepared.as_str(), "prepared"), (uuid.as_str(), "running")])
        );
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn prefix_of_a_uuid_will_do() -> Result<()> {
    with(|fixture| {
        let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
        let prefix = &uuid[..6];
        fixture.stage0(["status", prefix])?.expect(0)?;
        fixture.stage0(["cat-manifest", prefix])?.expect(0)?;
        fixture.stage0(["run-prepared", prefix])?.expect(0)?;
        fixture.stage0(["rm", prefix])?.expect(0)?;
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        Ok(())
    })
}

fn ambiguous_or_unknown_prefix_is_an_error() -> Result<()> {
    with(|fixture| {
        let mut beginnings = BTreeSet::new();
        // Two begin alike, of seventeen at the latest.
        let alike = loop {
            let uuid = fixture.pod([App::probe("a", ["exit", "0"])]).prepare()?;
            let beginning = uuid[..1].to_owned();
            if !beginnings.insert(beginning.clone()) {
                break beginning;
            }
        };
        fixture
            .stage0(["status", &alike])?
            .expect_refusal(&[&alike])?;
        fixture
            .stage0(["status", "no-uuid"])?
            .expect_refusal(&["no-uuid"])?;
        fixture
            .stage0(["rm", "ffffffff-ffff"])?
            .expect_refusal(&["ffffffff-ffff"])?;
        Ok(())
    })
}

fn manifest_is_shown() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["exit", "0"])
            .option("--annotation=example.com/key=value")
            .option("--label=version=9");
        let uuid = fixture.pod([app]).prepare()?;
        let manifest: Value = serde_json::from_str(&fixture.text(["cat-manifest", &uuid])?)?;
        assert_eq!(manifest["acKind"], "PodManifest");
        assert_eq!(manifest["apps"][0]["name"], "a");
        assert_eq!(
            manifest["apps"][0]["app"]["exec"],
            serde_json::json!(["/probe", "exit", "0"])
        );
        ensure!(
            manifest.to_string().contains("example.com/key"),
            "{manifest}"
        );
        Ok(())
    })
}

fn uuid_is_saved() -> Result<()> {
    with(|fixture| {
        let path = fixture.path("uuid");
        let pod = fixture
            .pod([App::probe("a", ["exit", "0"])])
            .option(format!("--uuid-file-save={}", path.display()));
        pod.run()?.expect(0)?;
        let saved = fs::read_to_string(&path)?;
        assert_eq!(saved.trim(), fixture.only_pod()?);
        Ok(())
    })
}
