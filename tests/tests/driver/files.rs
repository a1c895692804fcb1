//! The files of the pod directory.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, PodSpec};

use crate::common::{both, server, spec, wait_server};

tests::cases!("files":
    image_holds_what_the_contract_expects,
    of_a_running_pod,
    subcgroup_is_the_pods_own,
    stage0s_files_are_left_alone,
    empty_volumes_are_in_shared_volumes,
    no_absolute_path_is_stored,
);

fn image_holds_what_the_contract_expects() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod(PodSpec::new(false, [server()]))?;
        let root = &pod.stage1.rootfs;
        ensure!(root.join("rkt/status").is_dir(), "no folder rkt/status");
        ensure!(
            root.join("etc/hosts-fallback").is_file(),
            "no file etc/hosts-fallback"
        );
        ensure!(root.join("etc/os-release").exists(), "no etc/os-release");
        assert_eq!(
            pod.stage1
                .annotation("coreos.com/rkt/stage1/interface-version")?,
            "6"
        );
        for name in ["run", "enter", "stop", "gc"] {
            let path = pod
                .stage1
                .annotation(&format!("coreos.com/rkt/stage1/{name}"))?;
            let program = fs::read(root.join(path.trim_start_matches('/')))
                .with_context(|| format!("{name}: {path}"))?;
            ensure!(program.starts_with(b"\x7fELF"), "{path} is no program");
            ensure!(!has_loader(&program)?, "{path} needs a loader of the host");
        }
        for shell in [
            "bin/sh",
            "bin/bash",
            "usr/bin/sh",
            "usr/bin/perl",
            "usr/bin/python3",
        ] {
            ensure!(!root.join(shell).exists(), "{shell} is in the image");
        }
        Ok(())
    })
}

/// Whether a 64-bit ELF program has a PT_INTERP segment.
fn has_loader(program: &[u8]) -> Result<bool> {
    let number = |at: usize, size: usize| -> Result<usize> {
        let bytes = program.get(at..at + size).context("short program")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    (0..count)
        .map(|index| Ok(number(table + index * size, 4)? == 3))
        .try_fold(false, |any, one: Result<bool>| Ok(any | one?))
}

fn of_a_running_pod() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        pod.wait_ready()?;
        let root = pod.root();
        let machine = pod.uuid.replace('-', "");

        let pid1 = pod.pid1()?;
        let status = fs::read_to_string(format!("/proc/{pid1}/status"))?;
        let inner = status
            .lines()
            .find(|line| line.starts_with("NSpid:"))
            .context("NSpid")?;
        ensure!(
            inner.ends_with("\t1"),
            "process {pid1} is not the pod's PID 1: {inner}"
        );
        let start = ["ppid", "pid"]
            .into_iter()
            .find(|name| pod.dir().join(name).exists())
            .context("neither pid nor ppid")?;
        ensure!(
            pod.mtime("subcgroup")? <= pod.mtime(start)?,
            "subcgroup is written after {start}"
        );
        ensure!(
            pod.mtime(start)? >= pod.mtime("pod-created")?,
            "{start} is older than the pod"
        );
        let started = pod.mtime(start)?;

        ensure!(
            fs::symlink_metadata(pod.dir().join("flavor"))
                .context("flavor")?
                .is_symlink(),
            "flavor is no symlink"
        );
        ensure!(
            !pod.read("runtime-config")?.is_empty(),
            "runtime-config is empty"
        );
        ensure!(root.join("rkt/env/server").is_file(), "no rkt/env/server");
        assert_eq!(
            fs::read_to_string(root.join("etc/machine-id"))?.trim(),
            machine
        );
        // Where an existing rkt looks for them: not on a tmpfs or another mount inside the pod.
        let upper = pod.writable_root();
        assert_eq!(
            fs::read_link(upper.join("rkt/supervisor-status"))?.to_str(),
            Some("ready")
        );
        assert!(pod.statuses()?.is_empty(), "a status before the end");

        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        // Only now: an app does not wait for journald's start.
        ensure!(
            upper
                .join("var/log/journal")
                .join(&machine)
                .join("system.journal")
                .is_file(),
            "no journal in the upper layer"
        );
        assert_eq!(
            pod.mtime(start)?,
            started,
            "{start} is written more than once"
        );
        assert_eq!(pod.statuses()?["server"], 0);
        Ok(())
    })
}

fn subcgroup_is_the_pods_own() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        let path = pod.read("subcgroup")?;
        // systemd.unit(5): in the name of a scope of systemd's, a `-` that stands for itself is escaped.
        let named = path.replace(r"\x2d", "-").contains(&pod.uuid);
        ensure!(named, "{path} does not name the pod");
        let cgroups = pod.cgroups()?;
        ensure!(!cgroups.is_empty(), "no hierarchy has {path}");
        let lines = fs::read_to_string(format!("/proc/{}/cgroup", pod.pid1()?))?;
        // Each hierarchy in use: those that are mounted. The kernel tells of the unified one from when anybody has mounted
        // it anywhere, on a host of v1 alone too.
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        for line in lines.lines() {
            let fields: Vec<_> = line.splitn(3, ':').collect();
            let mounted = match fields[1] {
                "" => mounts.contains(" cgroup2 "),
                controllers => mounts.contains(controllers.trim_start_matches("name=")),
            };
            let inside = fields[2]
                .trim_start_matches('/')
                .starts_with(path.trim_start_matches('/'));
            // A scope is in the hierarchies that systemd knows, systemd.resource-control(5).
            let left_out = path.ends_with(".scope")
                && [
                    "cpuset", "freezer", "hugetlb", "misc", "net_", "perf_", "rdma",
                ]
                .iter()
                .any(|controller| fields[1].starts_with(controller));
            let expected = mounted && !left_out;
            ensure!(inside || !expected, "PID 1 is in {line}, not below {path}");
        }
        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        Ok(())
    })
}

fn stage0s_files_are_left_alone() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let names = [
            "pod",
            "pod.lck",
            "pod-created",
            "stage1/manifest",
            "appsinfo/server/manifest",
        ];
        let before = names.map(|name| {
            (
                pod.read(name).unwrap_or_default(),
                pod.mtime(name).unwrap_or_default(),
            )
        });
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        // Entrypoints never take this lock themselves: who holds it must not stop them.
        let lock = fs::File::open(pod.dir().join("pod.lck"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .context("pod.lck is locked")?;
        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        let after = names.map(|name| {
            (
                pod.read(name).unwrap_or_default(),
                pod.mtime(name).unwrap_or_default(),
            )
        });
        ensure!(before == after, "changed: {before:?} to {after:?}");
        Ok(())
    })
}

fn empty_volumes_are_in_shared_volumes() -> Result<()> {
    both(|driver, overlay| {
        let app = AppSpec::probe("a", &["write", "/data/file", "kept"])
            .with("mounts", json!([{ "volume": "data", "path": "/data" }]));
        let spec = PodSpec::new(overlay, [app])
            .with("volumes", json!([{ "name": "data", "kind": "empty" }]));
        let pod = driver.pod_in_run(spec)?;
        pod.run(&[])?.expect(0)?;
        assert_eq!(pod.read("sharedVolumes/data/file")?, "kept");
        Ok(())
    })
}

fn no_absolute_path_is_stored() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        let run = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        let mentions = pod.mentions(&format!("pods/run/{}", pod.uuid))?;
        ensure!(mentions.is_empty(), "the pod's path is in {mentions:?}");
        Ok(())
    })
}
