//! How long a pod takes to start, and an app in a running pod, beside two container runtimes: `scripts/bench` calls this.
//!
//! The same program is the harness and the app: as the app it writes the monotonic clock to a file in a volume as its
//! first deed, and as the harness it compares that with the clock just before the runtime was started.

mod apps;
mod curve;
mod enter;
mod logs;
mod net;
mod profile;
mod report;
mod runtimes;
mod stop;
mod streams;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, ValueEnum};
use rustix::time::{ClockId, clock_gettime};

use profile::Profile;
use report::{Report, Sample};
use runtimes::{Runtime, Setting};

/// The harness's command line, and the app's.
#[derive(Parser)]
enum Command {
    /// Measure the start of pods and containers.
    Start(Options),
    /// Measure apps that come to a running pod and go.
    App {
        #[command(flatten)]
        options: Options,
        /// How many apps are added to one pod in the end.
        #[arg(long, default_value_t = 100)]
        many: u32,
        /// Where a plot of their times and of the memory goes, as SVG.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// Measure how long it takes to stop a pod.
    Stop(Options),
    /// Measure how long a command in a running app takes.
    Enter(Options),
    /// Measure what a network of the pod's own costs.
    Net(Options),
    /// Measure how fast an app's output comes to who is attached.
    Streams(Options),
    /// Write much to standard output, after a line was read.
    Pour,
    /// Copy standard input to standard output.
    Relay,
    /// Write lines.
    Lines,
    /// Write the time to a file.
    Stamp { path: PathBuf },
    /// The same, and stay.
    Hang { path: PathBuf },
    /// End at once.
    Nothing,
}

#[derive(Args)]
struct Options {
    /// Our stage0.
    #[arg(long)]
    stage0: PathBuf,
    /// The stage1 image.
    #[arg(long)]
    stage1: PathBuf,
    /// The root file system that holds this program as /bench.
    #[arg(long)]
    rootfs: PathBuf,
    /// The same as an OCI archive.
    #[arg(long)]
    archive: PathBuf,
    /// How often each runtime runs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[arg(long, default_value = "text")]
    format: Format,
    /// What our pod asks for.
    #[arg(long, default_value = "bare")]
    profile: Profile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    // Before anything else: this is the app's first instruction.
    let now = now();
    let done = match Command::parse() {
        Command::Stamp { path } => stamp(now, &path),
        Command::Hang { path } => stamp(now, &path).map(|()| {
            loop {
                std::thread::park();
            }
        }),
        Command::Start(options) => start(&options),
        Command::Stop(options) => stop::measure(&options).and_then(|text| print(&text)),
        Command::App {
            options,
            many,
            plot,
        } => apps::measure(&options, many, plot.as_deref()).and_then(|text| print(&text)),
        Command::Enter(options) => enter::measure(&options).and_then(|text| print(&text)),
        Command::Net(options) => net::measure(&options).and_then(|text| print(&text)),
        Command::Streams(options) => streams::measure(&options).and_then(|text| print(&text)),
        Command::Pour => streams::pour(),
        Command::Relay => streams::relay(),
        Command::Lines => logs::lines(),
        Command::Nothing => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::from(254)
        }
    }
}

fn start(options: &Options) -> Result<()> {
    let setting = Setting::make(options)?;
    let runtimes = Runtime::all(&setting, options.profile)?;
    let mut report = Report::new(options.rounds);
    take_turns(&setting, &runtimes, options.rounds, |runtime, sample| {
        report.add(runtime.name(), sample);
    })?;
    let text = match options.format {
        Format::Text => report.text(),
        Format::Json => report.json()?,
    };
    print(&text)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write the report")
}

/// The monotonic clock in nanoseconds: the same for all processes, whatever their namespaces here.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn stamp(now: u64, path: &Path) -> Result<()> {
    std::fs::write(path, now.to_string())
        .with_context(|| format!("write the time to {}", path.display()))
}

/// Takes turns: whatever else the machine does meanwhile hits all runtimes alike, and the first place in a round, with
/// the colder caches, goes around.
fn take_turns(
    setting: &Setting,
    runtimes: &[Runtime],
    rounds: u32,
    mut add: impl FnMut(&Runtime, Sample),
) -> Result<()> {
    for runtime in runtimes {
        measure(runtime, setting).with_context(|| format!("warm up {}", runtime.name()))?;
    }
    for round in 0..rounds as usize {
        for turn in 0..runtimes.len() {
            let runtime = &runtimes[(round + turn) % runtimes.len()];
            let sample = measure(runtime, setting)
                .with_context(|| format!("round {round} of {}", runtime.name()))?;
            add(runtime, sample);
        }
    }
    Ok(())
}

fn measure(runtime: &Runtime, setting: &Setting) -> Result<Sample> {
    let stamp = setting.stamp();
    // Absent in the first round.
    let _ = std::fs::remove_file(&stamp);
    let prepared = runtime.prepare(setting)?;
    let mut command = runtime.command(setting, &prepared);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(setting.log()?);
    let before = now();
    let status = command.status();
    let after = now();
    let tidied = runtime.tidy(setting, &prepared);
    let status = status.with_context(|| format!("run {command:?}"))?;
    ensure!(
        status.success(),
        "{command:?}: {status}: {}",
        setting.logged().trim()
    );
    tidied?;
    let first = std::fs::read_to_string(&stamp)
        .with_context(|| format!("read the app's time from {}", stamp.display()))?;
    let first: u64 = first.parse().context("parse the app's time")?;
    ensure!(
        (before..=after).contains(&first),
        "the app's clock is not ours"
    );
    Ok(Sample {
        first: first - before,
        total: after - before,
    })
}
