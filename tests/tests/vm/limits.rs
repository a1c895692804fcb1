//! Limits, devices and kernel parameters on every layout of control groups, with strict isolators: what is not in force
//! ends the pod before its app starts.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::vm::{Cgroups, Config, Guest, Init, Report, Status};

use super::bench::Bench;

/// Runs the pod of the manifest.
const RUN: &str = r#"
id=$(/payload/stage0 image import /payload/app.aci)
sed "s/@ID@/$id/" "/payload/$1" >/shared/pod.json
shift
exec /payload/stage0 run --no-overlay --strict-isolators --pod-manifest=/shared/pod.json "$@"
"#;

/// Shows files of the pod's control group, and below it of its app's, by their names on either version.
const LOOK: &str = r#"
pod=$(echo /var/lib/stage0/pods/run/*)
cgroup=$(cat "$pod/subcgroup") || exit
echo "$cgroup"
for above in "" /payload/system.slice/app-a.service; do
    for file in memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max cpu/cpu.shares \
        memory.max memory.low memory.swap.max cpu.max cpu.weight pids.max io.max; do
        case $file in */*) dir=/${file%/*} ;; *) dir= ;; esac
        path=/sys/fs/cgroup$dir$cgroup$above/${file##*/}
        [ ! -e "$path" ] || echo "${above:+app }${file##*/} $(cat "$path")"
    done
done
cat "$pod/stage1/rootfs/rkt/status/a.json"
"#;

/// Presses against the limits from a command that is entered.
const ENTER: &str = r#"
exec /payload/stage0 enter "$(ls /var/lib/stage0/pods/run)" /probe do mknod /tmp/entered c 1 1 \
    + read /proc/self/cgroup + read /proc/self/oom_score_adj + threads 60
"#;

/// Runs the pod beside a shell, in the control group that the shell is in.
const BESIDE: &str = "
sh /payload/run \"$@\"
exit $?
";

/// Takes away what is left of a pod that has ended, and its files.
const FORGET: &str = "
/payload/stage0 gc --grace-period=0s && rm -r /shared/*
";

/// A pod whose app has children, stopped by force.
const FORCE: &str = r#"
/payload/stage0 run "$@" --volume=shared,kind=host,source=/shared --mount=volume=shared,target=/shared \
    example.com/app -- do spawn spawn hang , hang + spawn hang + write /shared/forked x + hang &
/payload/probe wait-file /shared/forked || exit
exec /payload/stage0 stop --force "$(ls /var/lib/stage0/pods/run | while read -r uuid; do
    /payload/stage0 status "$uuid" | grep -q state=running && echo "$uuid"
done)"
"#;

/// A pod with limits.
struct Limited {
    name: &'static str,
    /// Options of `stage0 run`.
    options: &'static str,
    /// In a user namespace it cannot be lowered.
    oom_score: i32,
    /// What the app says that it may do with device nodes.
    devices: [&'static str; 2],
}

const PLAIN: Limited = Limited {
    name: "plain",
    options: "",
    oom_score: -10,
    devices: ["/tmp/mem: 1, 2", "/tmp/null: made, opened"],
};
const WITH_USERS: Limited = Limited {
    name: "users",
    options: "--private-users",
    oom_score: 10,
    devices: ["/tmp/mem: 1, 2", "/tmp/null: 1, 2"],
};
const IN_SUBGROUP: Limited = Limited {
    name: "subgroup",
    ..PLAIN
};

fn manifest(pod: &Limited) -> Value {
    let of_pod = json!([
        { "name": "resource/memory", "value": { "limit": "128Mi" } },
        { "name": "resource/cpu", "value": { "limit": "1500m" } },
        { "name": "stage1/pids-max", "value": 100 },
        { "name": "os/unix/sysctl", "value": { "kernel.msgmax": "4321", "net.ipv4.ip_forward": "1" } },
    ]);
    let of_app = json!([
        { "name": "resource/memory", "value": { "limit": "64Mi" } },
        { "name": "resource/cpu", "value": { "limit": "900m" } },
        { "name": "os/linux/cpu-shares", "value": 512 },
        { "name": "os/linux/oom-score-adj", "value": pod.oom_score },
        { "name": "stage1/pids-max", "value": 33 },
        { "name": "resource/block-bandwidth", "value": { "default": true, "limit": "10M" } },
    ]);
    let exec = "/probe do mknod /tmp/mem c 1 1 + mknod /tmp/null c 1 3 + read /proc/sys/kernel/msgmax + \
        read /proc/sys/net/ipv4/ip_forward + threads 60 + write /shared/up x + wait-file /shared/go + allocate 96";
    json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "isolators": of_pod,
        "volumes": [{ "name": "shared", "kind": "host", "source": "/shared" }],
        "apps": [{
            "name": "a",
            "image": { "id": "@ID@" },
            "mounts": [{ "volume": "shared", "path": "/shared" }],
            "app": {
                "exec": exec.split_whitespace().collect::<Vec<_>>(),
                "user": "0",
                "group": "0",
                "isolators": of_app,
            },
        }],
    })
}

pub(crate) fn hold_on(guest: Guest) -> Result<()> {
    // Not beside others in the service of the guest's agent, where the kernel passes no controllers on.
    let (command, place) = match guest.init {
        Init::Busybox => ("sh /payload/run", "/rkt-"),
        Init::Systemd | Init::Systemd257 => (
            "systemd-run --scope --quiet -- sh /payload/run",
            "/machine.slice/machine-rkt",
        ),
    };
    hold_by(guest, command, place, |config| config)
}

/// A pod that a command starts, after steps of a caller's own, in a control group whose path begins so.
pub(crate) fn hold_by(
    guest: Guest,
    command: &str,
    place: &str,
    before: impl FnOnce(Config) -> Config,
) -> Result<()> {
    let steps = |config| left(held(before(config), &PLAIN, command));
    let report = Bench::new(guest)?.finish(steps)?;
    expect_held(&report, guest.cgroups, &PLAIN)?;
    let look = report.output("plain-look");
    ensure!(look.starts_with(place), "not in {place}: {look}");
    expect_nothing_left(&report)
}

/// Services that are as the unit that the project ships says, while other units come and go.
pub(crate) fn hold_in_a_service(guest: Guest) -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/stage0@.service");
    let unit = std::fs::read_to_string(&unit).with_context(|| unit.display().to_string())?;
    let of_cgroups = unit.lines().filter(|line| {
        let key = line.split('=').next().unwrap_or_default();
        matches!(key, "Slice" | "Delegate" | "TasksMax") || key.ends_with("Accounting")
    });
    let properties: Vec<_> = of_cgroups
        .map(|line| format!("--property={line}"))
        .collect();
    let command = format!(
        "systemd-run --service-type=exec --wait --pipe --quiet {} -- sh /payload/run",
        properties.join(" ")
    );
    let subgroup = command.replace(" -- ", " --property=DelegateSubgroup=main -- ");
    let beside = subgroup.replace("/payload/run", "/payload/beside");
    let mut pods = vec![(PLAIN, &command), (WITH_USERS, &command)];
    if guest.init == Init::Systemd257 {
        // Older ones do not know the setting.
        pods.push((IN_SUBGROUP, &beside));
    }
    let report = Bench::new(guest)?.finish(|config| {
        let config = config
            .text("beside", BESIDE)
            .text("others", OTHERS)
            .start("others", "sh /payload/others");
        let held = |config, (pod, command): &(Limited, &String)| held(config, pod, command);
        let config = pods.iter().fold(config, held);
        left(config.step("done", "touch /done").join("others"))
    })?;
    for (pod, _) in &pods {
        expect_held(&report, guest.cgroups, pod)?;
        // Below its unit.
        report.expect_text(&format!("{}-look", pod.name), ".service/rkt-")?;
    }
    report.expect("others", &Status::Exited(0))?;
    expect_nothing_left(&report)
}

/// Runs a pod, looks at it, and then one that is stopped by force.
fn held(config: Config, pod: &Limited, command: &str) -> Config {
    let of = |step: &str| format!("{}-{step}", pod.name);
    let file = format!("{}.json", pod.name);
    let run = format!("{command} {file} {}", pod.options);
    config
        .text(&file, &manifest(pod).to_string())
        .text("run", RUN)
        .text("look", LOOK)
        .text("enter", ENTER)
        .text("force", FORCE)
        .text("forget", FORGET)
        // Root of a user namespace is anybody there.
        .step(&of("shared"), "chmod 1777 /shared")
        .start(&of("pod"), &run)
        .step(&of("up"), "timeout 100 /payload/probe wait-file /shared/up")
        .step(&of("look"), "sh /payload/look")
        .step(&of("enter"), "sh /payload/enter")
        .step(&of("go"), "touch /shared/go")
        .join(&of("pod"))
        .step(&of("force"), &format!("sh /payload/force {}", pod.options))
        .step(&of("processes-left"), "pidof probe")
        .step(&of("forget"), "sh /payload/forget")
}

fn expect_held(report: &Report, cgroups: Cgroups, pod: &Limited) -> Result<()> {
    let of = |step: &str| format!("{}-{step}", pod.name);
    let output = report.expect(&of("pod"), &Status::Exited(128 + 9))?;
    for text in pod.devices.into_iter().chain(["4321", "threads: 32"]) {
        ensure!(output.contains(text), "no {text:?} in {output}");
    }
    expect_limits(report, &of("look"), cgroups)?;
    let entered = report.expect(&of("enter"), &Status::Exited(0))?;
    let score = format!("{}\n", pod.oom_score);
    // One of the app's 33 processes is its own.
    for text in [
        "/tmp/entered: 1, 2",
        "/app-a.service",
        &score,
        "threads: 31",
    ] {
        ensure!(entered.contains(text), "no {text:?} in {entered}");
    }
    report.expect(&of("force"), &Status::Exited(0))?;
    // pidof's way to say that there is none.
    report.expect(&of("processes-left"), &Status::Exited(1))?;
    report.expect(&of("forget"), &Status::Exited(0)).map(drop)
}

fn left(config: Config) -> Config {
    config.step("cgroups-left", "find /sys/fs/cgroup -name *rkt-*")
}

fn expect_nothing_left(report: &Report) -> Result<()> {
    assert_eq!(report.expect("cgroups-left", &Status::Exited(0))?, "");
    Ok(())
}

/// A unit whose comings and goings have systemd make and remove cgroups of a v1 controller that it uses for no other unit,
/// and move all processes there and back.
const OTHERS: &str = "
until [ -e /done ]; do
    systemd-run --scope --quiet --slice=machine.slice --property=IOAccounting=yes true || exit
done
";

/// Pods with user namespaces, one after the other.
const PODS: &str = "
for pod in 1 2 3 4 5; do
    /payload/stage0 run --private-users example.com/app --memory=64M -- do threads 1 + exit $pod
    echo pod $pod: $?
done
touch /done
";

pub(crate) fn pods_start_while_units_come_and_go(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?;
    let report = bench.finish(|config| {
        config
            .text("others", OTHERS)
            .text("pods", PODS)
            .start("others", "sh /payload/others")
            .step("pods", "systemd-run --scope --quiet -- sh /payload/pods")
            .join("others")
    })?;
    let output = report.expect("pods", &Status::Exited(0))?;
    for pod in 1..=5 {
        let ended = format!("pod {pod}: {pod}");
        ensure!(output.contains(&ended), "no {ended:?} in {output}");
    }
    report.expect("others", &Status::Exited(0)).map(drop)
}

fn expect_limits(report: &Report, step: &str, cgroups: Cgroups) -> Result<()> {
    let lines: &[&str] = match cgroups {
        Cgroups::Unified => &[
            "memory.max 134217728",
            "memory.swap.max 0",
            "cpu.max 150000 100000",
            "pids.max 100",
            "app memory.max 67108864",
            "app cpu.max 90000 100000",
            "app cpu.weight 50",
            "app pids.max 33",
        ],
        Cgroups::Hybrid | Cgroups::Legacy => &[
            "memory.limit_in_bytes 134217728",
            "cpu.cfs_quota_us 150000",
            "pids.max 100",
            "app memory.limit_in_bytes 67108864",
            "app cpu.cfs_quota_us 90000",
            "app cpu.shares 512",
            "app pids.max 33",
        ],
    };
    for line in lines {
        report.expect_text(step, line)?;
    }
    for outcome in ["modified", "ignored"] {
        let output = report.output(step);
        ensure!(!output.contains(outcome), "{output}");
    }
    Ok(())
}
