//! Many pods that are killed and stopped in random ways at random moments of their lives: each comes to its end, and
//! nothing of any is left.
//!
//! They are 200, unless `STAGE1_MANY` is another number; `STAGE1_CHURN_SEED` is the seed of chance, which a failure
//! names.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};
use tests::fixture::{Fixture, probe_image, with};
use tests::process::{BOUND, Running};

use crate::common::{many, number, process_of_pod, status};

tests::cases!("churn": pods_come_and_go);

const PODS: u64 = 200;
const APPS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How many are underway at once.
const AT_ONCE: usize = 4;
/// A pod is up after some 200 ms on a quiet machine.
const LATEST_MOMENT: u64 = 250;

/// Numbers by chance (xorshift64), the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let count = u64::try_from(all.len()).unwrap_or(1);
        all[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

/// What happens to a pod.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A signal to stage0, to init, to nspawn: whatever has that pid by then.
    Run(Signal),
    /// SIGKILL to a program in the pod.
    Kill(&'static str),
    Stop,
    StopForce,
    StopTwice,
    StopAndForce,
}

const EVENTS: [Event; 12] = [
    Event::Run(Signal::TERM),
    Event::Run(Signal::INT),
    Event::Run(Signal::KILL),
    Event::Run(Signal::KILL),
    Event::Kill("systemd"),
    Event::Kill("probe"),
    Event::Kill("prepare-app"),
    Event::Kill("systemd-journal"),
    Event::Stop,
    Event::StopForce,
    Event::StopTwice,
    Event::StopAndForce,
];

/// A pod on its way to its end.
struct Underway {
    uuid: String,
    story: String,
    run: Running,
    stops: Vec<Running>,
    force: bool,
    collect: bool,
}

fn pods_come_and_go() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let seed = number("STAGE1_CHURN_SEED").unwrap_or(now.into());
    // The generator stays at zero.
    let mut chance = Chance(seed.max(1));
    with(|fixture| churn(fixture, &mut chance)).with_context(|| format!("STAGE1_CHURN_SEED={seed}"))
}

fn churn(fixture: &Fixture, chance: &mut Chance) -> Result<()> {
    let image = fixture.import(&probe_image("app"))?;
    let mut prepare = vec!["prepare".to_owned()];
    for (at, app) in APPS.iter().enumerate() {
        prepare.extend((at > 0).then(|| "---".to_owned()));
        prepare.extend([&image, &format!("--name={app}"), "--", "until-term"].map(str::to_owned));
    }
    let mut underway = VecDeque::new();
    for pod in 0..many(PODS) {
        underway.push_back(begin(fixture, chance, &prepare).with_context(|| format!("pod {pod}"))?);
        if underway.len() == AT_ONCE {
            underway
                .pop_front()
                .map(|pod| end(fixture, pod))
                .transpose()?;
        }
        // It takes pods that have ended, which a stop that has just begun would miss.
        if chance.below(2) == 0 && underway.iter().all(|pod| pod.stops.is_empty()) {
            fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
        }
    }
    for pod in underway {
        end(fixture, pod)?;
    }
    fixture.stage0(["gc", "--grace-period=0s"])?.expect(0)?;
    ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
    ensure!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
    Ok(())
}

/// Runs a pod, and lets something happen to it at some moment.
fn begin(fixture: &Fixture, chance: &mut Chance, prepare: &[String]) -> Result<Underway> {
    let uuid = fixture.text(prepare)?;
    let run = fixture.start(["run-prepared", &uuid])?;
    let (event, moment) = (chance.one_of(&EVENTS), chance.below(LATEST_MOMENT));
    let stop = |options: &[&str]| {
        let words = ["stop"].iter().chain(options).copied();
        fixture.start(words.chain([uuid.as_str()]))
    };
    // Not later than its end, if that comes first.
    has_ended(&run, Duration::from_millis(moment))?;
    let stops = match event {
        Event::Run(signal) => {
            // Not reaped yet, so the pid is no other's, dead or alive.
            run.signal(signal)?;
            Vec::new()
        }
        Event::Kill(name) => {
            // There may be none yet, or none any more.
            if let Ok(pid) = process_of_pod(&uuid, name) {
                let _ = kill_process(pid, Signal::KILL);
            }
            Vec::new()
        }
        Event::Stop => vec![stop(&[])?],
        Event::StopForce => vec![stop(&["--force"])?],
        Event::StopTwice => vec![stop(&[])?, stop(&[])?],
        Event::StopAndForce => vec![stop(&[])?, stop(&["--force"])?],
    };
    Ok(Underway {
        story: format!("pod {uuid}, {event:?} after {moment} ms"),
        uuid,
        run,
        stops,
        force: chance.below(2) == 0,
        collect: chance.below(2) == 0,
    })
}

fn has_ended(run: &Running, within: Duration) -> Result<bool> {
    let pidfd = pidfd_open(run.pid(), PidfdFlags::empty()).context("pidfd")?;
    tests::wait::readable(pidfd.as_fd(), Some(Instant::now() + within))
}

/// Stops the pod, whatever has happened to it, and removes it.
fn end(fixture: &Fixture, pod: Underway) -> Result<()> {
    let story = pod.story.clone();
    finish(fixture, pod).with_context(|| story)
}

fn finish(fixture: &Fixture, pod: Underway) -> Result<()> {
    for stop in pod.stops {
        stopped(stop)?;
    }
    let options: &[&str] = if pod.force { &["--force"] } else { &[] };
    let bound = Instant::now() + BOUND;
    while !is_collected(fixture, &pod.uuid) {
        let words = ["stop"].iter().chain(options).copied();
        stopped(fixture.start(words.chain([pod.uuid.as_str()]))?)?;
        // A pod that has not begun to start cannot be stopped yet.
        if has_ended(&pod.run, Duration::from_millis(50))? {
            break;
        }
        ensure!(Instant::now() < bound, "it cannot be stopped");
    }
    pod.run.finish()?;
    if is_collected(fixture, &pod.uuid) {
        return Ok(());
    }
    let state = status(fixture, &pod.uuid)?["state"].clone();
    ensure!(["exited", "prepared"].contains(&state.as_str()), "{state}");
    if pod.collect || state == "prepared" {
        fixture.stage0(["rm", &pod.uuid])?.expect(0)?;
    }
    Ok(())
}

/// Whether gc has met it, after its end.
fn is_collected(fixture: &Fixture, uuid: &str) -> bool {
    fixture.pods().iter().all(|(_, pod)| pod != uuid)
}

/// `stop` ends well, or finds a pod that does not run.
fn stopped(stop: Running) -> Result<()> {
    let finished = stop.finish()?;
    if finished.code() != 0 {
        finished.expect_refusal(&["stop pod ", ": it is "])?;
    }
    Ok(())
}
