//! Limits of apps and pods, from inside and in the host's cgroup files; and kernel parameters.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, with};
use tests::process::{BOUND, Finished};

use crate::common::app_status;

tests::cases!("resources": wrong_values; both ways:
    options_of_apps_are_in_the_kernel,
    isolators_of_images_are_in_the_kernel,
    memory_ends_who_takes_more,
    memory_of_a_child_ends_the_child,
    processor_time,
    a_little_processor_time_is_not_nothing,
    processes,
    of_the_pod_bound_its_apps,
    of_the_pod_are_out_of_its_reach,
    a_lower_oom_score_is_set_or_reported,
    strict,
    kernel_parameters,
    kernel_parameters_of_the_host
    ; with users:
    options_of_apps_are_in_the_kernel,
    isolators_of_images_are_in_the_kernel,
    memory_ends_who_takes_more,
    processor_time,
    processes,
    of_the_pod_bound_its_apps,
    of_the_pod_are_out_of_its_reach,
    a_lower_oom_score_is_set_or_reported,
    strict,
    kernel_parameters,
    kernel_parameters_of_the_host,
);

/// The status of the only pod's app.
fn status(fixture: &Fixture, app: &str) -> Result<Value> {
    let uuid = uuid(fixture)?;
    let path = fixture
        .pod_dir(&uuid)?
        .join(format!("stage1/rootfs/rkt/status/{app}.json"));
    let json = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(serde_json::from_slice(&json)?)
}

fn uuid(fixture: &Fixture) -> Result<String> {
    Ok(fixture.pods().first().context("no pod")?.1.clone())
}

/// What became of an isolator: `enforced`, …
fn outcome(fixture: &Fixture, app: &str, isolator: &str) -> Result<String> {
    let status = status(fixture, app)?;
    let reports = status["isolators"].as_array().context("no reports")?;
    let report = reports
        .iter()
        .find(|report| report["name"] == isolator)
        .with_context(|| format!("no report on {isolator}: {status:#}"))?;
    Ok(report["outcome"].as_str().context("no outcome")?.to_owned())
}

/// The file of the only pod's cgroup, by its names on v1 and v2.
fn limit(fixture: &Fixture, below: &str, v1: [&str; 2], v2: &str) -> Result<String> {
    let cgroup = fs::read_to_string(fixture.pod_dir(&uuid(fixture)?)?.join("subcgroup"))?;
    let of_v1 = PathBuf::from(format!("/sys/fs/cgroup/{}{cgroup}{below}/{}", v1[0], v1[1]));
    let of_v2 = PathBuf::from(format!("/sys/fs/cgroup{cgroup}{below}/{v2}"));
    let path = if of_v1.exists() { of_v1 } else { of_v2 };
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Runs a pod of one app until the test has looked at its cgroups.
fn while_it_runs(app: App, look: impl FnOnce(&Fixture) -> Result<()>) -> Result<()> {
    with(|fixture| {
        let running = fixture.pod([app]).option("--no-overlay").start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        look(fixture)?;
        fs::write(fixture.out("go"), "")?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn waiting() -> App {
    let words = ["do", "write", "/out/up", "", "+", "wait-file", "/out/go"];
    App::probe("a", words)
}

const APP: &str = "/payload/system.slice/app-a.service";

fn options_of_apps_are_in_the_kernel() -> Result<()> {
    let app = waiting()
        .option("--memory=64M")
        .option("--cpu=250m")
        .option("--cpu-shares=333")
        .option("--oom-score-adj=77");
    while_it_runs(app, |fixture| {
        let memory = limit(
            fixture,
            APP,
            ["memory", "memory.limit_in_bytes"],
            "memory.max",
        )?;
        // In whole pages.
        assert_eq!(memory.parse::<u64>()? / 4096, 64_000_000 / 4096);
        let quota = limit(fixture, APP, ["cpu", "cpu.cfs_quota_us"], "cpu.max")?;
        assert_eq!(quota.split(' ').next(), Some("25000"));
        let shares = limit(fixture, APP, ["cpu", "cpu.shares"], "cpu.weight")?;
        ensure!(["333", "32"].contains(&shares.as_str()), "{shares}");
        for isolator in ["resource/cpu", "os/linux/oom-score-adj"] {
            assert_eq!(outcome(fixture, "a", isolator)?, "enforced", "{isolator}");
        }
        Ok(())
    })
}

fn isolators_of_images_are_in_the_kernel() -> Result<()> {
    let isolators = json!([
        { "name": "resource/memory", "value": { "limit": "64Mi" } },
        { "name": "stage1/pids-max", "value": 33 },
        { "name": "resource/block-bandwidth", "value": { "default": true, "limit": "10M" } },
        { "name": "resource/block-iops", "value": { "default": true, "limit": 500 } },
    ]);
    let app = waiting().change(|image| image.app("isolators", isolators));
    while_it_runs(app, |fixture| {
        assert_eq!(limit(fixture, APP, ["pids", "pids.max"], "pids.max")?, "33");
        for isolator in ["resource/memory", "stage1/pids-max"] {
            assert_eq!(outcome(fixture, "a", isolator)?, "enforced", "{isolator}");
        }
        // Not on every storage: then that is said.
        let bandwidth = outcome(fixture, "a", "resource/block-bandwidth")?;
        if bandwidth == "enforced" {
            let file = "blkio.throttle.write_bps_device";
            let found = limit(fixture, APP, ["blkio", file], "io.max")?;
            ensure!(found.contains("10000000"), "{found}");
            assert_eq!(outcome(fixture, "a", "resource/block-iops")?, "enforced");
        } else {
            assert_eq!(bandwidth, "ignored");
        }
        Ok(())
    })
}

fn memory_ends_who_takes_more() -> Result<()> {
    with(|fixture| {
        let takes =
            |megabytes: &str| App::probe("a", ["allocate", megabytes]).option("--memory=48Mi");
        fixture.pod([takes("16")]).run()?.expect(0)?;
        let pod = fixture.pod([takes("96")]).option("--no-overlay");
        let (uuid, running) = pod.start_prepared(&[])?;
        running.finish()?.expect(128 + 9)?;
        assert_eq!(app_status(fixture, &uuid, "a")?["result"], "oom-kill");
        Ok(())
    })
}

fn memory_of_a_child_ends_the_child() -> Result<()> {
    with(|fixture| {
        let words = "do spawn allocate 96 , write /out/allocated x + spin 1500 + exit 5";
        let app = App::probe("a", words.split(' ')).option("--memory=48Mi");
        fixture.pod([app]).run()?.expect(5)?;
        ensure!(!fixture.out("allocated").exists(), "it has had the memory");
        Ok(())
    })
}

/// The number after a word that the probe has printed.
fn printed(finished: &Finished, word: &str) -> Result<u64> {
    let console = finished.console("a");
    let number = console.iter().find_map(|line| line.strip_prefix(word));
    let number = number.with_context(|| format!("no {word:?}: {finished}"))?;
    Ok(number.trim().parse()?)
}

fn processor_time() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["burn", "400"]).option("--cpu=200m");
        let finished = fixture.pod([app]).run()?.expect(0)?;
        // Where others keep the processors busy it is more.
        let time = printed(&finished, "burnt in ")?;
        ensure!(time >= 1500, "{time} ms instead of 2000");
        Ok(())
    })
}

fn a_little_processor_time_is_not_nothing() -> Result<()> {
    let app = waiting().option("--cpu=7m");
    while_it_runs(app, |fixture| {
        assert_eq!(outcome(fixture, "a", "resource/cpu")?, "enforced");
        Ok(())
    })
}

fn processes() -> Result<()> {
    with(|fixture| {
        let isolators = json!([{ "name": "stage1/pids-max", "value": 12 }]);
        let app = App::probe("a", ["threads", "40"]).change(|i| i.app("isolators", isolators));
        let finished = fixture.pod([app]).run()?.expect(0)?;
        assert_eq!(printed(&finished, "threads: ")?, 11);
        Ok(())
    })
}

/// A manifest of one app, the probe, and isolators of the pod.
fn pod_with(fixture: &Fixture, isolators: Value, app: Value, words: &str) -> Result<String> {
    let id = fixture.import(&tests::fixture::probe_image("a"))?;
    let mut exec = vec!["/probe"];
    exec.extend(words.split(' '));
    let manifest = json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [{
            "name": "a",
            "image": { "id": id },
            "app": { "exec": exec, "user": "0", "group": "0", "isolators": app },
            "mounts": [{ "volume": "out", "path": "/out" }],
        }],
        "volumes": [{ "name": "out", "kind": "host", "source": fixture.path("out") }],
        "isolators": isolators,
    });
    let path = fixture.path("manifest.json");
    fs::write(&path, manifest.to_string())?;
    Ok(format!("--pod-manifest={}", path.display()))
}

fn of_the_pod_bound_its_apps() -> Result<()> {
    with(|fixture| {
        let isolators = json!([
            { "name": "resource/memory", "value": { "limit": "96Mi" } },
            { "name": "resource/cpu", "value": { "limit": "500m" } },
            { "name": "stage1/pids-max", "value": 50 },
        ]);
        let own = json!([{ "name": "resource/cpu", "value": { "limit": "2" } }]);
        let words = "do write /out/up x + wait-file /out/go + threads 80 + allocate 192";
        let manifest = pod_with(fixture, isolators, own, words)?;
        let running = fixture.start(["run", "--no-overlay", &manifest])?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let memory = limit(
            fixture,
            "",
            ["memory", "memory.limit_in_bytes"],
            "memory.max",
        )?;
        assert_eq!(memory, (96 << 20).to_string());
        assert_eq!(limit(fixture, "", ["pids", "pids.max"], "pids.max")?, "50");
        let quota = limit(fixture, "", ["cpu", "cpu.cfs_quota_us"], "cpu.max")?;
        assert_eq!(quota.split(' ').next(), Some("50000"));
        assert_eq!(outcome(fixture, "a", "resource/cpu")?, "modified");
        fs::write(fixture.out("go"), "")?;
        let finished = running.finish()?.expect(128 + 9)?;
        ensure!(printed(&finished, "threads: ")? < 50, "{finished}");
        Ok(())
    })
}

/// Not even an app with all capabilities finds the file that has the pod's limit.
fn of_the_pod_are_out_of_its_reach() -> Result<()> {
    with(|fixture| {
        let isolators = json!([{ "name": "resource/memory", "value": { "limit": "96Mi" } }]);
        let names = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let words = format!("see --out /out/a.json --read {names} --write {names}");
        let manifest = pod_with(fixture, isolators, json!([]), &words)?;
        fixture
            .stage0(["run", "--insecure-options=all", &manifest])?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        match seen.text(names) {
            // The top of what it sees is the cgroup below.
            Ok(found) => ensure!(found.trim() != (96 << 20).to_string(), "{found}"),
            // No v1 here: nspawn has put the pod below, likewise.
            Err(_) => assert_eq!(seen.cgroups, ["0::/system.slice/app-a.service"]),
        }
        Ok(())
    })
}

fn a_lower_oom_score_is_set_or_reported() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", [] as [&str; 0]).option("--oom-score-adj=-100");
        fixture.pod([app]).option("--no-overlay").run()?.expect(0)?;
        let set = fixture.seen("a")?.oom_score_adj == -100;
        let expected = if set { "enforced" } else { "modified" };
        assert_eq!(outcome(fixture, "a", "os/linux/oom-score-adj")?, expected);
        Ok(())
    })
}

fn strict() -> Result<()> {
    with(|fixture| {
        let app = || {
            App::probe("a", ["exit", "0"])
                .option("--memory=64M")
                .option("--cpu=500m")
        };
        let pod = fixture.pod([app()]).option("--strict-isolators");
        pod.run()?.expect(0)?;
        let isolators = json!([{ "name": "example.com/of-tomorrow", "value": {} }]);
        let app = app().change(|image| image.app("isolators", isolators));
        let finished = fixture.pod([app]).option("--strict-isolators").run()?;
        finished.expect_refusal(&["example.com/of-tomorrow", "--strict-isolators"])?;
        Ok(())
    })
}

fn wrong_values() -> Result<()> {
    with(|fixture| {
        for (name, value, field) in [
            ("resource/cpu", json!({ "limit": "1x" }), "limit"),
            (
                "resource/memory",
                json!({ "limit": "1M", "request": "2M" }),
                "request",
            ),
            ("resource/block-iops", json!({ "limit": 1 }), "default"),
            ("os/linux/cpu-shares", json!(1), "262144"),
            ("stage1/pids-max", json!("many"), "number"),
        ] {
            let isolators = json!([{ "name": name, "value": value }]);
            let app = App::probe("a", ["exit", "0"]).change(|i| i.app("isolators", isolators));
            let finished = fixture.pod([app]).run()?;
            finished.expect_refusal(&["app a", name, field])?;
        }
        for (option, part) in [
            ("--memory=1MB", "resource/memory"),
            ("--oom-score-adj=x", "number"),
        ] {
            let app = App::probe("a", ["exit", "0"]).option(option);
            fixture.pod([app]).run()?.expect_refusal(&[part])?;
        }
        Ok(())
    })
}

fn kernel_parameters() -> Result<()> {
    with(|fixture| {
        let before = fs::read_to_string("/proc/sys/kernel/msgmax")?;
        let isolators = json!([{
            "name": "os/unix/sysctl",
            "value": { "kernel.msgmax": "4321", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "55" },
        }]);
        let files = ["kernel/msgmax", "net/ipv4/ip_forward", "fs/mqueue/msg_max"];
        let files = files.map(|file| format!("/proc/sys/{file}"));
        let looks = files
            .each_ref()
            .map(|file| format!("--read {file}"))
            .join(" ");
        let words = format!("see --out /out/a.json {looks}");
        let manifest = pod_with(fixture, isolators, json!([]), &words)?;
        fixture.stage0(["run", &manifest])?.expect(0)?;
        let seen = fixture.seen("a")?;
        for (file, value) in files.iter().zip(["4321", "1", "55"]) {
            assert_eq!(seen.text(file)?.trim(), value, "{file}");
        }
        assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax")?, before);
        // What set the parameter is not for the app.
        assert_eq!(seen.capabilities.bounding & 1 << 12, 0);
        Ok(())
    })
}

fn kernel_parameters_of_the_host() -> Result<()> {
    with(|fixture| {
        for (name, parts, option) in [
            (
                "vm.swappiness",
                ["os/unix/sysctl", "vm.swappiness"],
                "--net=none",
            ),
            (
                "kernel.pid_max",
                ["os/unix/sysctl", "kernel.pid_max"],
                "--net=none",
            ),
            (
                "net.core.somaxconn",
                ["net.core.somaxconn", "host's network"],
                "--net=host",
            ),
            (
                "net.core.of_tomorrow",
                ["net.core.of_tomorrow", "no such parameter"],
                "--net=none",
            ),
        ] {
            let isolators = json!([{ "name": "os/unix/sysctl", "value": { name: "1" } }]);
            let manifest = pod_with(fixture, isolators, json!([]), "exit 0")?;
            let finished = fixture.stage0(["run", option, &manifest])?.expect(254)?;
            let told = format!("{}{}", finished.stderr, finished.stdout);
            ensure!(parts.iter().all(|part| told.contains(part)), "{finished}");
        }
        Ok(())
    })
}
