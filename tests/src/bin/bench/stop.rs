//! How long it takes to stop a pod with three idle apps, in order and by force.

use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::report::Spread;
use crate::runtimes::{Setting, output, stage0};
use crate::{Format, Options, now};

/// What is asked of the stop in order, in milliseconds.
const LIMIT: f64 = 60.0;

/// How long a pod may take to be up.
const START_TIME: Duration = Duration::from_secs(60);

/// What is compared: the options of `stage0 stop`.
const WAYS: [(&str, &[&str]); 2] = [("stop", &[]), ("stop --force", &["--force"])];

/// Measures, and gives the report.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let setting = Setting::make(options)?;
    let mut import = stage0(&setting);
    let image = output(import.args(["image", "import"]).arg(setting.archive()))?;
    let mut times = WAYS.map(|_| Vec::new());
    for round in 0..=options.rounds {
        for ((name, words), times) in WAYS.iter().zip(&mut times) {
            let taken = Pod::start(&setting, &image)
                .and_then(|pod| pod.stop(words))
                .with_context(|| format!("round {round} of {name}"))?;
            // The first round warms up.
            times.extend((round > 0).then_some(taken));
        }
    }
    let spreads = times.map(|times| Spread::of(times.into_iter()));
    Ok(match options.format {
        Format::Text => text(options.rounds, &spreads),
        Format::Json => json(options.rounds, &spreads),
    })
}

/// A pod while it runs.
struct Pod<'a> {
    setting: &'a Setting,
    uuid: String,
    run: Child,
}

impl<'a> Pod<'a> {
    fn start(setting: &'a Setting, image: &str) -> Result<Self> {
        let mut prepare = stage0(setting);
        prepare.arg("prepare");
        for (at, name) in ["--name=a", "--name=b", "--name=c"].into_iter().enumerate() {
            prepare.args((at > 0).then_some("---"));
            prepare.args([image, name, "--exec=/bench", "--", "hang", "/tmp/stamp"]);
        }
        let uuid = output(&mut prepare)?;
        let mut run = stage0(setting);
        run.args(["run-prepared", "--net=none", &uuid]);
        run.stdin(Stdio::null()).stdout(Stdio::null());
        let run = run.stderr(setting.log()?).spawn();
        let pod = Self {
            setting,
            uuid,
            run: run.context("run the pod")?,
        };
        let dir = setting.path("stage0/pods/run").join(&pod.uuid);
        // Each is in a folder that is there with the one before.
        for path in ["", "ppid", "stage1/rootfs/rkt/supervisor-status"] {
            tests::wait::for_path(&dir.join(path), Some(START_TIME))
                .with_context(|| format!("wait for the pod: {}", setting.logged().trim()))?;
        }
        Ok(pod)
    }

    /// Stops it; gives the time until the command's exit.
    fn stop(self, options: &[&str]) -> Result<u64> {
        let mut stop = stage0(self.setting);
        stop.arg("stop").args(options).arg(&self.uuid);
        let before = now();
        output(&mut stop)?;
        Ok(now() - before)
    }
}

impl Drop for Pod<'_> {
    /// Whatever of it there is: a failure to take it away is no news beside the one that led here.
    fn drop(&mut self) {
        let _ = output(stage0(self.setting).args(["stop", "--force", &self.uuid]));
        let _ = self.run.wait();
        let _ = output(stage0(self.setting).args(["rm", &self.uuid]));
    }
}

fn text(rounds: u32, spreads: &[Spread]) -> String {
    let mut text = format!("{rounds} rounds, milliseconds until exit: median (least, most)\n\n");
    for ((name, _), spread) in WAYS.iter().zip(spreads) {
        let (median, min, max) = (spread.median, spread.min, spread.max);
        let _ = writeln!(text, "{name:<14} {median:>8.1} ({min:.1}, {max:.1})");
    }
    let median = spreads[0].median;
    let verdict = if median <= LIMIT { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "\n{verdict}: the stop of three idle apps takes {median:.1} ms, at most {LIMIT:.0} asked"
    );
    text
}

fn json(rounds: u32, spreads: &[Spread]) -> String {
    let ways: serde_json::Map<_, _> = WAYS
        .iter()
        .zip(spreads)
        .map(|((name, _), spread)| ((*name).to_owned(), spread.json()))
        .collect();
    let met = spreads[0].median <= LIMIT;
    let value = json!({
        "rounds": rounds,
        "unit": "ms",
        "until-exit": ways,
        "requirement": { "stop": LIMIT, "met": met },
    });
    format!("{value:#}\n")
}
