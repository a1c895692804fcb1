//! How fast an app's output comes to who is attached, beside a plain pipe through one socket, and to its log.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::logs::Logs;
use crate::report::Spread;
use crate::runtimes::{Setting, output, stage0};
use crate::{Format, Options, now};

/// How much is poured in a round, in bytes.
const AMOUNT: u64 = 256 * 1024 * 1024;
/// The part of a plain pipe's throughput that is asked for.
const ASKED: f64 = 0.5;
/// How much a program reads or writes at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How long a pod may take to be up.
const START_TIME: Duration = Duration::from_secs(60);

const WAYS: [&str; 2] = ["plain pipe and socket", "app to attach"];

/// Measures, and gives the report.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let setting = Setting::make(options)?;
    let mut import = stage0(&setting);
    let image = output(import.args(["image", "import"]).arg(setting.archive()))?;
    let mut times = WAYS.map(|_| Vec::new());
    for round in 0..=options.rounds {
        let taken = [plain(), attached(&setting, &image)];
        for ((name, taken), times) in WAYS.iter().zip(taken).zip(&mut times) {
            let taken = taken.with_context(|| format!("round {round} of {name}"))?;
            // The first round warms up.
            times.extend((round > 0).then_some(taken));
        }
    }
    let spreads = times.map(|times| Spread::of(times.into_iter()));
    let logs = Logs::measure(&setting, &image, options.rounds)?;
    Ok(match options.format {
        Format::Text => text(options.rounds, &spreads, &logs),
        Format::Json => json(options.rounds, &spreads, &logs),
    })
}

/// What the app does: waits for a line, and writes.
pub(crate) fn pour() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    let chunk = [0; CHUNK];
    let mut out = std::io::stdout();
    for _ in 0..AMOUNT / CHUNK as u64 {
        out.write_all(&chunk)?;
    }
    Ok(())
}

/// What stands between pipe and socket.
pub(crate) fn relay() -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = rustix::io::read(rustix::stdio::stdin(), &mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &chunk[..count];
        while !rest.is_empty() {
            let written = rustix::io::write(rustix::stdio::stdout(), rest)?;
            rest = &rest[written..];
        }
    }
}

/// Has it begin, and reads all of it: the time that takes.
fn take(mut begin: impl Write, mut from: impl Read) -> Result<u64> {
    let before = now();
    begin.write_all(b"\n").context("begin")?;
    let mut chunk = vec![0; CHUNK];
    let mut left = AMOUNT;
    while left > 0 {
        let count = from.read(&mut chunk).context("read")?;
        ensure!(count > 0, "{left} bytes have not come");
        left = left
            .checked_sub(count as u64)
            .context("more has come than was sent")?;
    }
    Ok(now() - before)
}

fn plain() -> Result<u64> {
    let program = std::env::current_exe()?;
    let mut app = Command::new(&program);
    let mut app = app
        .arg("pour")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (ours, theirs) = UnixStream::pair()?;
    let pipe = app.stdout.take().context("no pipe")?;
    let mut relay = Command::new(&program);
    relay.arg("relay").stdin(pipe).stdout(OwnedFd::from(theirs));
    let mut child = relay.spawn()?;
    drop(relay);
    let taken = take(app.stdin.take().context("no pipe")?, ours);
    app.wait()?;
    child.wait()?;
    taken
}

fn attached(setting: &Setting, image: &str) -> Result<u64> {
    let mut prepare = stage0(setting);
    prepare.args([
        "prepare",
        image,
        "--exec=/bench",
        "--stdin=stream",
        "--stdout=stream",
    ]);
    prepare.args(["--annotation=stage1/log-streams=false", "--", "pour"]);
    let uuid = output(&mut prepare)?;
    let mut run = stage0(setting);
    run.args(["run-prepared", "--net=none", &uuid]);
    run.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(setting.log()?);
    let mut run = run.spawn().context("run the pod")?;
    let taken = attach(setting, &uuid);
    if taken.is_err() {
        // What led here is the news.
        let _ = output(stage0(setting).args(["stop", "--force", &uuid]));
    }
    run.wait()?;
    output(stage0(setting).args(["rm", &uuid]))?;
    taken
}

fn attach(setting: &Setting, uuid: &str) -> Result<u64> {
    let dir = setting.path("stage0/pods/run").join(uuid);
    for path in ["", "ppid"] {
        tests::wait::for_path(&dir.join(path), Some(START_TIME))?;
    }
    let mut attach = stage0(setting);
    attach.args(["attach", uuid]);
    let attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut attach: Child = attach.context("attach")?;
    let begin = attach.stdin.take().context("no pipe")?;
    let from = attach.stdout.take().context("no pipe")?;
    let taken = take(begin, from);
    attach.wait()?;
    taken
}

/// Megabytes in a second.
fn rate(spread: &Spread) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let amount = AMOUNT as f64;
    amount / 1000.0 / spread.median
}

fn text(rounds: u32, spreads: &[Spread], logs: &Logs) -> String {
    let mut text = format!("{rounds} rounds of 256 MiB, MB/s: median\n\n");
    for (name, spread) in WAYS.iter().zip(spreads) {
        let _ = writeln!(text, "{name:<24} {:>8.0}", rate(spread));
    }
    text.push_str(&logs.text());
    let ratio = rate(&spreads[1]) / rate(&spreads[0]);
    let verdict = if ratio >= ASKED { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "\n{verdict}: an app's output comes at {ratio:.2} of a plain pipe's rate, at least {ASKED} asked"
    );
    text
}

fn json(rounds: u32, spreads: &[Spread], logs: &Logs) -> String {
    let ratio = rate(&spreads[1]) / rate(&spreads[0]);
    let value = json!({
        "rounds": rounds,
        "unit": "MB/s",
        "plain": rate(&spreads[0]),
        "attach": rate(&spreads[1]),
        "logs": logs.json(),
        "requirement": { "ratio": ASKED, "found": ratio, "met": ratio >= ASKED },
    });
    format!("{value:#}\n")
}
