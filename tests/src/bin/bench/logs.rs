//! How long lines take from an app to its log, beside another runtime: whole commands, from exec to the end.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::now;
use crate::report::Spread;
use crate::runtimes::{Setting, output, podman, stage0};

/// How many lines.
const LINES: usize = 100_000;
/// What the other's container is called.
const CONTAINER: &str = "stage1-bench-logs";
/// The ways, the other runtime's last.
const WAYS: [&str; 3] = ["stage0, journal", "stage0, k8s-plain", "podman, k8s-file"];

/// What the app does.
pub(crate) fn lines() -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for number in 1..=LINES {
        // Each is written by itself, as most programs do that write lines.
        out.write_all(format!("line {number} of {LINES}\n").as_bytes())?;
    }
    Ok(())
}

/// The times of each way.
pub(crate) struct Logs([Spread; 3]);

impl Logs {
    /// Measures them in turns.
    pub(crate) fn measure(setting: &Setting, image: &str, rounds: u32) -> Result<Self> {
        fs::create_dir_all(setting.path("k8s")).context("make the directory for logs")?;
        let mut times = WAYS.map(|_| Vec::new());
        for round in 0..=rounds {
            let taken = [
                ours(setting, image, false),
                ours(setting, image, true),
                theirs(setting),
            ];
            for ((name, taken), times) in WAYS.iter().zip(taken).zip(&mut times) {
                let taken = taken.with_context(|| format!("round {round} of {name}"))?;
                // The first round warms up.
                times.extend((round > 0).then_some(taken));
            }
        }
        Ok(Self(times.map(|times| Spread::of(times.into_iter()))))
    }

    fn ratio(&self, way: usize) -> f64 {
        self.0[way].median / self.0[2].median
    }

    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("\n{LINES} lines to a log, ms from exec to exit: median (least, most)\n\n");
        for (name, spread) in WAYS.iter().zip(&self.0) {
            let Spread { median, min, max } = spread;
            let _ = writeln!(text, "{name:<24} {median:>8.0} ({min:.0}, {max:.0})");
        }
        let _ = writeln!(
            text,
            "\nour log takes {:.2} of podman's time, k8s-plain {:.2}",
            self.ratio(0),
            self.ratio(1)
        );
        text
    }

    pub(crate) fn json(&self) -> Value {
        let ways = WAYS.iter().zip(&self.0);
        let mut value: serde_json::Map<_, _> = ways
            .map(|(name, spread)| ((*name).into(), spread.json()))
            .collect();
        value.insert("ratio".into(), json!(self.ratio(0)));
        value.insert("ratio-k8s-plain".into(), json!(self.ratio(1)));
        value.into()
    }
}

/// Runs it with its output thrown away, and gives the time.
fn timed(setting: &Setting, command: &mut Command) -> Result<u64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(setting.log()?);
    let before = now();
    let status = command
        .status()
        .with_context(|| format!("run {command:?}"))?;
    let taken = now() - before;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(taken)
}

fn ours(setting: &Setting, image: &str, kubernetes: bool) -> Result<u64> {
    let annotation = |of: &str, name: &str, value: &str| {
        format!("--{of}=coreos.com/rkt/experiment/{name}={value}")
    };
    let mut prepare = stage0(setting);
    prepare.arg("prepare");
    let file = setting.path("k8s/0.log");
    if kubernetes {
        let dir = setting.path("k8s").display().to_string();
        prepare.arg(annotation("pod-annotation", "logmode", "k8s-plain"));
        prepare.arg(annotation("pod-annotation", "kubernetes-log-dir", &dir));
    }
    prepare.args([image, "--exec=/bench"]);
    if kubernetes {
        prepare.arg(annotation("annotation", "kubernetes-log-path", "0.log"));
    }
    let uuid = output(prepare.args(["--", "lines"]))?;
    let taken = timed(
        setting,
        stage0(setting).args(["run-prepared", "--net=none", &uuid]),
    )?;
    let logged = match kubernetes {
        true => fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?,
        false => output(stage0(setting).args(["logs", &uuid]))?,
    };
    ensure!(
        logged.lines().count() == LINES,
        "{} lines",
        logged.lines().count()
    );
    if kubernetes {
        fs::remove_file(&file)?;
    }
    output(stage0(setting).args(["rm", &uuid]))?;
    Ok(taken)
}

fn theirs(setting: &Setting) -> Result<u64> {
    let mut run = podman(setting);
    run.args([
        "run",
        "--network=none",
        "--log-driver=k8s-file",
        "--name",
        CONTAINER,
        "--rootfs",
    ]);
    run.arg(setting.rootfs()).args(["/bench", "lines"]);
    let taken = timed(setting, &mut run);
    output(podman(setting).args(["rm", "--force", CONTAINER]))?;
    taken
}
