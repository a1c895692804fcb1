//! Apps that come and go: adding and starting one in a running pod, beside a container in podman's pod and one of crun;
//! stopping and removing it; and whether the hundredth takes longer than the first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::wait;

use crate::curve::{self, Point};
use crate::report::Spread;
use crate::runtimes::{Runtime, Setting, output, podman, stage0};
use crate::{Options, now};

/// What is asked: our add and start take at most this part of podman's `run --pod`, and of crun's `run`.
const OF_PODMAN: f64 = 0.35;
const OF_CRUN: f64 = 50.0 / 14.0;

/// What is asked of stopping and of removing, in milliseconds.
const END: f64 = 30.0;

/// How long nothing is done before a command of which it matters whether it takes longer than the one before. The kernel
/// has the first move of a process into a cgroup after a quiet moment wait 10 to 20 ms, and not the next one: whether
/// commands that follow each other at once meet that changes with their own length.
const QUIET: Duration = Duration::from_millis(100);

const POD: &str = "stage1-bench-pod";

/// Our pod, running. Dropped, it is stopped and removed.
struct OurPod<'s> {
    setting: &'s Setting,
    uuid: String,
    image: String,
    run: Child,
}

impl<'s> OurPod<'s> {
    fn start(setting: &'s Setting, image: &str) -> Result<Self> {
        let volume = format!(
            "--volume=out,kind=host,source={}",
            setting.path("out").display()
        );
        let uuid = output(stage0(setting).args(["prepare", "--mutable", &volume]))?;
        let mut command = stage0(setting);
        command.args(["run-prepared", "--net=none", &uuid]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pod = Self {
            setting,
            image: image.to_owned(),
            run: command.spawn().context("run our pod")?,
            uuid,
        };
        wait::for_path(&pod.dir(), Some(Duration::from_secs(60)))?;
        // Waits until it is ready.
        pod.add("first")?;
        pod.end("rm", "first")?;
        Ok(pod)
    }

    fn dir(&self) -> PathBuf {
        self.setting.path("stage0/pods/run").join(&self.uuid)
    }

    fn add(&self, name: &str) -> Result<()> {
        let (name, words) = (
            format!("--name={name}"),
            ["app", "add", "--mount=volume=out,target=/out"],
        );
        let mut command = stage0(self.setting);
        command.args(words).args([&self.uuid, &self.image, &name]);
        command.args(["--exec=/bench", "--", "hang", "/out/stamp"]);
        output(&mut command).map(drop)
    }

    fn end(&self, verb: &str, name: &str) -> Result<()> {
        let name = format!("--app={name}");
        output(stage0(self.setting).args(["app", verb, &self.uuid, &name])).map(drop)
    }

    /// What the pod's PID 1 has in memory, in KiB.
    fn memory_of_pid_1(&self) -> Result<u64> {
        let status = output(stage0(self.setting).args(["status", "--format=json", &self.uuid]))?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let pid = status["pid"].as_u64().context("the pod has no PID 1")?;
        let text = fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.context("no VmRSS")?.parse().context("VmRSS")
    }
}

impl Drop for OurPod<'_> {
    fn drop(&mut self) {
        // What fails here is told by what is left in the scratch directory.
        let _ = output(stage0(self.setting).args(["stop", "--force", &self.uuid]));
        let _ = self.run.wait();
        let _ = output(stage0(self.setting).args(["rm", &self.uuid]));
    }
}

/// podman's pod. Dropped, it is removed.
struct TheirPod<'s>(&'s Setting);

impl<'s> TheirPod<'s> {
    fn start(setting: &'s Setting) -> Result<Self> {
        let pod = Self(setting);
        output(podman(setting).args(["pod", "create", "--network=none", "--name", POD]))?;
        output(podman(setting).args(["pod", "start", POD]))?;
        Ok(pod)
    }

    fn run(&self) -> Result<u64> {
        let mut command = podman(self.0);
        command.args(["run", "--pod", POD, "--name=app", "--volume"]);
        command.arg(format!("{}:/out", self.0.path("out").display()));
        command
            .arg("--rootfs")
            .arg(self.0.rootfs())
            .args(["/bench", "stamp", "/out/stamp"]);
        let time = timed(|| output(&mut command).map(drop))?;
        output(podman(self.0).args(["rm", "--force", "app"]))?;
        Ok(time)
    }
}

impl Drop for TheirPod<'_> {
    fn drop(&mut self) {
        let _ = output(podman(self.0).args(["pod", "rm", "--force", POD]));
    }
}

/// Nanoseconds that something takes.
fn timed(act: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = now();
    act()?;
    Ok(now() - before)
}

/// Measures, and gives the report.
pub(crate) fn measure(options: &Options, many: u32, plot: Option<&Path>) -> Result<String> {
    let setting = Setting::make(options)?;
    let runtimes = Runtime::all(&setting, options.profile)?;
    let image = runtimes.iter().find_map(|runtime| match runtime {
        Runtime::Stage0 { image, .. } => Some(image.as_str()),
        _ => None,
    });
    let ours = OurPod::start(&setting, image.context("our image")?)?;
    let theirs = TheirPod::start(&setting)?;
    let (mut starts, mut stops, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    let (mut podman, mut crun) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let start = timed(|| ours.add("app").and_then(|()| ours.end("start", "app")))?;
        let stop = timed(|| ours.end("stop", "app"))?;
        let removal = timed(|| ours.end("rm", "app"))?;
        let peer = theirs.run()?;
        let mut command = Runtime::Crun.command(&setting, "stage1-bench");
        let other = timed(|| output(&mut command).map(drop))?;
        // The first round warms up.
        if round > 0 {
            starts.push(start);
            stops.push(stop);
            removals.push(removal);
            podman.push(peer);
            crun.push(other);
        }
    }
    let points = fill(&ours, many)?;
    if let Some(plot) = plot {
        fs::write(plot, curve::svg(&points))
            .with_context(|| format!("write {}", plot.display()))?;
    }
    let rows = [
        ("add + start", starts),
        ("stop", stops),
        ("rm", removals),
        ("podman run --pod", podman),
        ("crun run", crun),
    ];
    text(
        options.rounds,
        &rows.map(|(name, times)| (name, Spread::of(times.into_iter()))),
        &points,
    )
}

/// Adds and starts many apps that stay, each after a quiet moment.
fn fill(pod: &OurPod<'_>, many: u32) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for number in 1..=many {
        let name = format!("app-{number}");
        let quiet = |act: &dyn Fn() -> Result<()>| {
            std::thread::sleep(QUIET);
            timed(act)
        };
        let time = quiet(&|| pod.add(&name))? + quiet(&|| pod.end("start", &name))?;
        points.push(Point {
            apps: number,
            milliseconds: time as f64 / 1e6,
            memory: pod.memory_of_pid_1()?,
        });
    }
    Ok(points)
}

fn text(rounds: u32, rows: &[(&str, Spread); 5], points: &[Point]) -> Result<String> {
    let mut text =
        format!("{rounds} rounds, milliseconds of whole commands: median (least, most)\n\n");
    for (name, spread) in rows {
        let cell = format!(
            "{:.1} ({:.1}, {:.1})",
            spread.median, spread.min, spread.max
        );
        text.push_str(&format!("{name:<18} {cell:>26}\n"));
    }
    let [start, stop, rm, podman, crun] = rows.each_ref().map(|(_, spread)| spread.median);
    let met = start <= OF_PODMAN * podman && start <= OF_CRUN * crun && stop <= END && rm <= END;
    text.push_str(&curve::text(points));
    text.push_str(&format!(
        "\n{}: add + start at {:.2} of podman's, at most {OF_PODMAN} asked, and {:.1} of crun's, at most {OF_CRUN:.1}; stop and \
         rm at most {END} ms\n",
        if met { "PASS" } else { "FAIL" },
        start / podman,
        start / crun,
    ));
    ensure!(start > 0.0, "nothing was measured");
    Ok(text)
}
