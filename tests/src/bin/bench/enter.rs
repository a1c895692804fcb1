//! How long it takes to run a command in a running app, beside two container runtimes and nsenter. All join cgroups with
//! the same limits, because a join is most of what there is to wait for.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::report::Spread;
use crate::runtimes::{Runtime, Setting, crun, output, podman, stage0, write_bundle};
use crate::{Format, Options, now};

/// What is asked: the entrypoint takes no longer than this part of what crun takes.
const LIMIT: f64 = 1.0;

/// The container of each of the others.
const CONTAINER: &str = "stage1-bench-enter";

/// How long a pod or container may take to be there.
const START_TIME: Duration = Duration::from_secs(60);

const ENTRYPOINT: &str = "enter";
const CRUN: &str = "crun exec";

/// Limits of memory and processors, in bytes and thousandths.
const MEMORY: u64 = 256 << 20;
const CPU: u64 = 2_000;

/// Measures, and gives the report.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let setting = Setting::make(options)?;
    let runtimes = Runtime::all(&setting, options.profile)?;
    let image = runtimes.iter().find_map(|runtime| match runtime {
        Runtime::Stage0 { image, .. } => Some(image),
        _ => None,
    });
    let running = Running::start(&setting, image.context("our image is not there")?)?;
    let mut ways = running.ways()?;
    let mut times: Vec<(&str, Vec<u64>)> =
        ways.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 0..=options.rounds as usize {
        for turn in 0..ways.len() {
            let at = (round + turn) % ways.len();
            let (name, command) = &mut ways[at];
            let context = || format!("round {round} of {name}");
            // The first to join a cgroup after a quiet moment waits for the kernel, whoever that is: the second run counts.
            time(command).with_context(context)?;
            let taken = time(command).with_context(context)?;
            // The first round warms up.
            if round > 0 {
                times[at].1.push(taken);
            }
        }
    }
    let spreads = times.into_iter();
    let spreads: Vec<_> = spreads
        .map(|(name, times)| (name, Spread::of(times.into_iter())))
        .collect();
    match options.format {
        Format::Text => Ok(text(options.rounds, &spreads)),
        Format::Json => Ok(json(options.rounds, &spreads)),
    }
}

fn time(command: &mut Command) -> Result<u64> {
    let before = now();
    let output = command.stdin(Stdio::null()).output();
    let after = now();
    let output = output.with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(after - before)
}

/// The pod and the containers, while they run.
struct Running<'a> {
    setting: &'a Setting,
    pod: Child,
    uuid: String,
}

impl<'a> Running<'a> {
    fn start(setting: &'a Setting, image: &str) -> Result<Self> {
        let memory = format!("--memory={MEMORY}");
        let cpu = format!("--cpu={CPU}m");
        let mut prepare = stage0(setting);
        prepare.args([
            "prepare",
            image,
            "--name=bench",
            "--exec=/bench",
            &memory,
            &cpu,
            "--",
            "hang",
            "/dev/null",
        ]);
        let uuid = output(&mut prepare)?;
        let mut run = stage0(setting);
        run.args(["run-prepared", &uuid]);
        run.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(setting.log()?);
        let running = Self {
            pod: run.spawn().context("run the pod")?,
            setting,
            uuid,
        };
        let resources = json!({
            "memory": { "limit": MEMORY },
            "cpu": { "quota": CPU * 100, "period": 100_000 },
            "devices": [{ "allow": false, "access": "rwm" }],
        });
        write_bundle(setting, &["/bench", "hang", "/dev/null"], resources)?;
        let mut start = crun(setting);
        start
            .args(["run", "--detach", "--bundle"])
            .arg(setting.path("crun"))
            .arg(CONTAINER);
        detached(&mut start)?;
        let mut start = podman(setting);
        let (memory, cpus) = (
            format!("--memory={MEMORY}"),
            format!("--cpus={}", CPU / 1_000),
        );
        start.args([
            "run",
            "--detach",
            "--network=none",
            "--name",
            CONTAINER,
            &memory,
            &cpus,
        ]);
        start
            .arg("--rootfs")
            .arg(setting.rootfs())
            .args(["/bench", "hang", "/dev/null"]);
        detached(&mut start)?;
        let end = Instant::now() + START_TIME;
        while time(stage0(setting).args(["enter", &running.uuid, "/bench", "nothing"])).is_err() {
            ensure!(
                Instant::now() < end,
                "the pod does not start: {}",
                setting.logged()
            );
            // Not measured yet; what is tried again is all that tells.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// What is compared.
    fn ways(&self) -> Result<Vec<(&'static str, Command)>> {
        let setting = self.setting;
        let nothing = ["/bench", "nothing"];
        let status = output(stage0(setting).args(["status", "--format=json", &self.uuid]))?;
        let pid = pid(&status)?;
        let dir = setting.path("stage0/pods/run").join(&self.uuid);
        let mut entrypoint = Command::new(dir.join("stage1/rootfs/enter"));
        entrypoint.args([
            format!("--pid={pid}"),
            "--appname=bench".into(),
            "--".into(),
        ]);
        entrypoint.args(nothing).current_dir(dir);
        let mut whole = stage0(setting);
        whole.args(["enter", &self.uuid]).args(nothing);
        let mut of_crun = crun(setting);
        of_crun.args(["exec", CONTAINER]).args(nothing);
        let mut of_podman = podman(setting);
        of_podman.args(["exec", CONTAINER]).args(nothing);
        let state = output(crun(setting).args(["state", CONTAINER]))?;
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--all", "--target", &self::pid(&state)?.to_string()])
            .args(nothing);
        Ok(vec![
            (ENTRYPOINT, entrypoint),
            ("stage0 enter", whole),
            (CRUN, of_crun),
            ("podman exec", of_podman),
            ("nsenter", nsenter),
        ])
    }
}

impl Drop for Running<'_> {
    /// Whatever of it there is: a failure to take it away is no news beside the one that led here.
    fn drop(&mut self) {
        let _ = output(stage0(self.setting).args(["stop", "--force", &self.uuid]));
        let _ = self.pod.wait();
        let _ = output(stage0(self.setting).args(["rm", &self.uuid]));
        let _ = output(crun(self.setting).args(["delete", "--force", CONTAINER]));
        let _ = output(podman(self.setting).args(["rm", "--force", "--time=0", CONTAINER]));
    }
}

/// Runs a command that leaves something running, which must not hold this program's pipes.
fn detached(command: &mut Command) -> Result<()> {
    let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
    let [stdin, stdout, stderr] = streams;
    let status = command.stdin(stdin).stdout(stdout).stderr(stderr).status();
    let status = status.with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn pid(json: &str) -> Result<i64> {
    let value: Value = serde_json::from_str(json).with_context(|| format!("parse {json}"))?;
    match value["pid"].as_i64() {
        Some(pid) if pid > 0 => Ok(pid),
        _ => bail!("no pid in {json}"),
    }
}

/// The entrypoint's median over crun's.
fn ratio(spreads: &[(&str, Spread)]) -> f64 {
    let median = |name: &str| {
        let found = spreads.iter().find(|(other, _)| *other == name);
        found.map_or(f64::NAN, |(_, spread)| spread.median)
    };
    median(ENTRYPOINT) / median(CRUN)
}

fn text(rounds: u32, spreads: &[(&str, Spread)]) -> String {
    let mut text = format!("{rounds} rounds, milliseconds until exit: median (least, most)\n\n");
    for (name, spread) in spreads {
        let (median, min, max) = (spread.median, spread.min, spread.max);
        let _ = writeln!(text, "{name:<14} {median:>8.1} ({min:.1}, {max:.1})");
    }
    let ratio = ratio(spreads);
    let verdict = if ratio <= LIMIT { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "\n{verdict}: the entrypoint takes {ratio:.2} of what crun exec takes, at most {LIMIT:.1} asked"
    );
    text
}

fn json(rounds: u32, spreads: &[(&str, Spread)]) -> String {
    let ways: serde_json::Map<_, _> = spreads
        .iter()
        .map(|(name, spread)| ((*name).to_owned(), spread.json()))
        .collect();
    let ratio = ratio(spreads);
    let value = json!({
        "rounds": rounds,
        "unit": "ms",
        "until-exit": ways,
        "requirement": { "entrypoint-to-crun": LIMIT, "ratio": ratio, "met": ratio <= LIMIT },
    });
    format!("{value:#}\n")
}
