//! What a network of the pod's own costs at its start: `--net=default` beside `--net=none`, and podman's default network.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::report::Spread;
use crate::runtimes::{Runtime, Setting};
use crate::{Format, Options, take_turns};

/// What is asked of the difference, in milliseconds.
const LIMIT: f64 = 60.0;

/// What is compared, in the order of [`Runtime::with_networks`].
const NAMES: [&str; 3] = [
    "stage0 --net=none",
    "stage0 --net=default",
    "podman, default network",
];

/// Measures, and gives the report.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let setting = Setting::make(options)?;
    let runtimes = Runtime::with_networks(&setting)?;
    let mut times = NAMES.map(|_| Vec::new());
    take_turns(&setting, &runtimes, options.rounds, |runtime, sample| {
        let place = runtimes.iter().position(|r| std::ptr::eq(r, runtime));
        times[place.unwrap_or_default()].push(sample.first);
    })?;
    let spreads = times.map(|times| Spread::of(times.into_iter()));
    Ok(match options.format {
        Format::Text => text(options.rounds, &spreads),
        Format::Json => json(options.rounds, &spreads),
    })
}

/// What the network adds.
fn added(spreads: &[Spread; 3]) -> f64 {
    spreads[1].median - spreads[0].median
}

fn text(rounds: u32, spreads: &[Spread; 3]) -> String {
    let mut text = format!(
        "{rounds} rounds, milliseconds until the first instruction: median (least, most)\n\n"
    );
    for (name, spread) in NAMES.iter().zip(spreads) {
        let (median, min, max) = (spread.median, spread.min, spread.max);
        let _ = writeln!(text, "{name:<24} {median:>8.1} ({min:.1}, {max:.1})");
    }
    let added = added(spreads);
    let verdict = if added <= LIMIT { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "\n{verdict}: the default network costs {added:.1} ms, at most {LIMIT:.0} asked"
    );
    text
}

fn json(rounds: u32, spreads: &[Spread; 3]) -> String {
    let ways: serde_json::Map<_, _> = NAMES
        .iter()
        .zip(spreads)
        .map(|(name, spread)| ((*name).to_owned(), spread.json()))
        .collect();
    let added = added(spreads);
    let value = json!({
        "rounds": rounds,
        "unit": "ms",
        "until-first-instruction": ways,
        "requirement": { "added": LIMIT, "measured": added, "met": added <= LIMIT },
    });
    format!("{value:#}\n")
}
