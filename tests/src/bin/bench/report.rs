//! Medians and ratios of what was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One run of one runtime, in nanoseconds since it was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// The app's first instruction.
    pub(crate) first: u64,
    /// The runtime's end.
    pub(crate) total: u64,
}

/// What is asked: our first instruction comes within this part of podman's time.
const LIMIT: f64 = 0.9;

/// What the isolators of a whole pod may add to that instruction's time, in milliseconds.
const ADDED: f64 = 10.0;

/// Our pod that asks for nothing.
pub(crate) const OURS: &str = "stage0";
/// Our pod that asks for everything.
pub(crate) const FULL: &str = "stage0-full";
const PEERS: [&str; 2] = ["podman", "crun"];

/// The samples of a whole benchmark.
#[derive(Debug)]
pub(crate) struct Report {
    rounds: u32,
    samples: BTreeMap<&'static str, Vec<Sample>>,
}

/// What is in the middle, and how far the rest lies around it, in milliseconds.
#[derive(Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of one or more times.
    pub(crate) fn of(nanoseconds: impl Iterator<Item = u64>) -> Self {
        let mut sorted: Vec<_> = nanoseconds.map(|value| value as f64 / 1e6).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 0 {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Self {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }

    pub(crate) fn json(&self) -> Value {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({ "median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max) })
    }
}

impl Report {
    pub(crate) fn new(rounds: u32) -> Self {
        Self {
            rounds,
            samples: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, runtime: &'static str, sample: Sample) {
        self.samples.entry(runtime).or_default().push(sample);
    }

    fn first(&self, runtime: &str) -> Spread {
        Spread::of(self.samples[runtime].iter().map(|sample| sample.first))
    }

    fn total(&self, runtime: &str) -> Spread {
        Spread::of(self.samples[runtime].iter().map(|sample| sample.total))
    }

    /// Our median over a peer's.
    fn ratios(&self, peer: &str) -> (f64, f64) {
        (
            self.first(OURS).median / self.first(peer).median,
            self.total(OURS).median / self.total(peer).median,
        )
    }

    /// What asking for everything adds to the first instruction and to the end, when it was measured.
    fn added(&self) -> Option<(f64, f64)> {
        self.samples.contains_key(FULL).then(|| {
            (
                self.first(FULL).median - self.first(OURS).median,
                self.total(FULL).median - self.total(OURS).median,
            )
        })
    }

    fn met(&self) -> bool {
        self.ratios("podman").0 <= LIMIT && self.added().is_none_or(|(first, _)| first <= ADDED)
    }

    /// A table, and whether what is asked is met.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} rounds, milliseconds from exec: median (least, most)\n\n{:<12} {:>24} {:>24}\n",
            self.rounds, "", "first instruction", "until exit"
        );
        let cell = |spread: Spread| {
            format!(
                "{:.1} ({:.1}, {:.1})",
                spread.median, spread.min, spread.max
            )
        };
        for runtime in self.samples.keys() {
            let (first, total) = (cell(self.first(runtime)), cell(self.total(runtime)));
            let _ = writeln!(text, "{runtime:<12} {first:>24} {total:>24}");
        }
        text.push('\n');
        for peer in PEERS {
            let (first, total) = self.ratios(peer);
            let ratio = format!("{OURS}/{peer}");
            let _ = writeln!(text, "{ratio:<17} {first:>19.2} {total:>24.2}");
        }
        let added = self.added().map(|(first, total)| {
            let _ = writeln!(text, "{:<17} {first:>+19.1} {total:>+24.1}", "full - bare");
            format!(", and {first:.1} ms later with every isolator, at most {ADDED} ms asked")
        });
        let _ = writeln!(
            text,
            "\n{}: first instruction at {:.2} of podman's, at most {LIMIT} asked{}",
            if self.met() { "PASS" } else { "FAIL" },
            self.ratios("podman").0,
            added.unwrap_or_default()
        );
        text
    }

    /// The same as JSON, with all samples.
    pub(crate) fn json(&self) -> Result<String> {
        let runtimes: serde_json::Map<_, _> = self
            .samples
            .iter()
            .map(|(name, samples)| {
                let samples: Vec<_> = samples
                    .iter()
                    .map(|s| json!({ "first": s.first, "total": s.total }))
                    .collect();
                let value = json!({
                    "first": self.first(name).json(),
                    "total": self.total(name).json(),
                    "samples-ns": samples,
                });
                ((*name).to_owned(), value)
            })
            .collect();
        let ratios: serde_json::Map<_, _> = PEERS
            .iter()
            .map(|peer| {
                let (first, total) = self.ratios(peer);
                (
                    (*peer).to_owned(),
                    json!({ "first": first, "total": total }),
                )
            })
            .collect();
        let added = self
            .added()
            .map(|(first, total)| json!({ "first": first, "total": total }));
        let value = json!({
            "rounds": self.rounds,
            "unit": "ms",
            "runtimes": runtimes,
            "ratios": ratios,
            "full-minus-bare": added,
            "requirement": { "first-to-podman": LIMIT, "full-minus-bare": ADDED, "met": self.met() },
        });
        let text = serde_json::to_string_pretty(&value).context("write the report as JSON")?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: u64) -> Report {
        let mut report = Report::new(2);
        for (runtime, first) in [(OURS, ours), ("crun", 10), ("podman", 100)] {
            for round in [0, 2] {
                let first = (first + round) * 1_000_000;
                report.add(
                    runtime,
                    Sample {
                        first,
                        total: first * 2,
                    },
                );
            }
        }
        report
    }

    #[test]
    fn median_lies_between_the_middle_two() {
        let spread = Spread::of([4_000_000, 1_000_000, 2_000_000, 9_000_000].into_iter());
        let expected = Spread {
            median: 3.0,
            min: 1.0,
            max: 9.0,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of([7_000_000].into_iter()).median, 7.0);
    }

    #[test]
    fn requirement_is_about_podman() {
        assert!(
            report(80)
                .text()
                .contains("PASS: first instruction at 0.80")
        );
        assert!(report(95).text().contains("FAIL"));
    }

    #[test]
    fn every_isolator_may_cost_little() {
        let with_full = |milliseconds: u64| {
            let mut report = report(50);
            let first = milliseconds * 1_000_000;
            let total = first * 2;
            report.add(FULL, Sample { first, total });
            report.text()
        };
        assert!(with_full(61).contains("PASS: first instruction at 0.50"));
        let text = with_full(62);
        assert!(
            text.contains("11.0 ms later") && text.contains("FAIL"),
            "{text}"
        );
    }

    #[test]
    fn json_has_medians_and_ratios() {
        let json: Value = serde_json::from_str(&report(80).json().unwrap()).unwrap();
        assert_eq!(json["runtimes"]["crun"]["first"]["median"], 11.0);
        assert_eq!(json["runtimes"]["crun"]["total"]["max"], 24.0);
        assert_eq!(json["requirement"]["met"], true);
        assert_eq!(
            json["runtimes"]["stage0"]["samples-ns"][0]["first"],
            80_000_000
        );
    }
}
