//! What the systemd of a pod knows, asked from outside by the host's `systemctl`.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::Skip;
use crate::process::{self, BOUND};

/// How often units are looked at that are waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Names of units, with their states.
pub type Units = BTreeMap<String, String>;

/// Puts a link to the pod's socket of systemd where `systemctl` looks, for itself alone, and goes into the pod's PID
/// namespace, and its user namespace if it has one, which cannot be joined twice: systemd answers only those who are in
/// them.
const ASK: &str = r#"
mount -t tmpfs tmpfs /run && ln -s "/proc/$1/root/run/systemd" /run/systemd || exit
users=--user
test "$(readlink "/proc/$1/ns/user")" != "$(readlink /proc/self/ns/user)" || users=
exec nsenter --target "$1" --pid $users systemctl list-units --all --full --plain --no-legend --no-pager
"#;

/// The units that systemd has loaded, with their states. Those of mounts are left out: they follow the mount table,
/// which systemd reads at most five times a second.
///
/// # Errors
/// [`Skip`] where there is no `systemctl`.
fn of_pod(init: i32) -> Result<Units> {
    let mut ask = Command::new("unshare");
    ask.args(["--mount", "sh", "-c", ASK, "ask", &init.to_string()]);
    let answer = process::run(ask)?;
    // In the words of whichever nsenter there is.
    let mut lines = answer.stderr.lines();
    if lines.any(|line| line.contains("systemctl") && line.contains("No such file")) {
        return Err(Skip("this host has no systemctl".into()).into());
    }
    let answer = answer.expect(0)?.stdout;
    let mut units = Units::new();
    for line in answer.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().context("a line without a unit")?;
        if !name.ends_with(".mount") {
            let states: Vec<&str> = words.take(3).collect();
            units.insert(name.to_owned(), states.join(" "));
        }
    }
    Ok(units)
}

/// The units when none of them is on its way to be active any more, as the journal of a pod that has just started is.
///
/// # Errors
/// [`Skip`] where there is no `systemctl`.
pub fn settled(init: i32) -> Result<Units> {
    let end = Instant::now() + BOUND;
    loop {
        let now = of_pod(init)?;
        if !now.values().any(|states| states.contains(" activating ")) {
            return Ok(now);
        }
        ensure!(Instant::now() < end, "not settled: {now:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until the units of the pod are `expected`, and fails if they stay others.
pub fn expect(init: i32, expected: &Units) -> Result<()> {
    let end = Instant::now() + BOUND;
    loop {
        let now = of_pod(init)?;
        if now == *expected {
            return Ok(());
        }
        let changed: Vec<_> = expected
            .iter()
            .filter(|(name, states)| now.get(*name) != Some(states))
            .chain(now.iter().filter(|(name, _)| !expected.contains_key(*name)))
            .collect();
        ensure!(Instant::now() < end, "other units: {changed:?}");
        // systemd forgets a unit in its own time, and would tell only its bus of it.
        std::thread::sleep(LOOK_AGAIN);
    }
}
