//! The pod tests inside guests: the same program as on this machine, with its results told here one by one. A test
//! whose result has not come back is a failure.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tests::harness::{Skip, ended, stripped};
use tests::process;
use tests::vm::{Cgroups, Ended, Guest, Init, Outcomes, Status, TestVm};

use super::bench::{config, with_pods};

/// The guests that are started when none is asked for.
const GUESTS: [Guest; 3] = [
    Guest::new(Init::Busybox, Cgroups::Unified),
    Guest::new(Init::Systemd, Cgroups::Unified),
    Guest::new(Init::Systemd, Cgroups::Hybrid),
];

/// Tests of all subjects in which hosts differ: what runs in these guests. In one that is asked for, all tests do.
const SMOKE: [&str; 20] = [
    "app_life::from_addition_to_removal",
    "capabilities::no_new_privileges",
    "death::of_the_supervisor",
    "devices::others_cannot_be_made_or_opened",
    "dns::servers_are_written",
    "ending::stop_is_orderly",
    "enter::the_only_app_and_its_shell",
    "environment::nothing_of_the_callers_gets_in",
    "exit::status_of_the_app",
    "filesystem::root_is_the_same_without_overlay",
    "hostile::symlinks_at_the_api_file_systems",
    "isolators::each_has_a_report",
    "logs::entries_say_whose_they_are",
    "mounts::empty_is_shared_by_the_apps",
    "readiness::the_pod_is_ready_when_its_apps_are",
    "resources::memory_ends_who_takes_more",
    "resources::of_the_pod_are_out_of_its_reach",
    "resources::processes",
    "seccomp::default_refuses",
    "volumes::read_only_holds_for_what_is_mounted_in_it",
];

/// Tests that a kind of guest has not what it takes for, and the beginning of the reason that they must give. Any other
/// test that is skipped is a failure.
const SKIPPED: &[(Init, &str, &str)] = &[(Init::Busybox, "logs::", "this host has no journalctl")];

/// How long all of them may take: only what hangs gets here.
const LIMIT: Duration = Duration::from_secs(50 * 60);

/// Runs the tests as the only user of the guest. Their pods lie in memory, which is quicker than the emulated disk. What
/// is written beside the results goes to the console, so that it does not stand in the middle of one.
const SCRIPT: &str = "
mkdir /scratch
mount -t tmpfs -o mode=755,size=75% tmpfs /scratch
export TMPDIR=/scratch STAGE1_BUILD_DIR=/payload STAGE1_PROBE=/payload/probe
export STAGE1_TESTS=/payload/tests
exec /payload/pods --test-threads=3 --color=never 2>/dev/console
";

/// The pod tests of one guest.
struct Suite {
    guest: Guest,
    tests: Vec<String>,
    program: PathBuf,
    results: OnceLock<Result<Outcomes, String>>,
}

/// The trials of all guests: those that boot them, and the others.
pub(super) fn trials(
    arguments: &Arguments,
    only: Option<&str>,
) -> Result<(Vec<Trial>, Vec<Trial>)> {
    let (program, all) = pods()?;
    if let Some(unknown) = SMOKE
        .iter()
        .find(|name| !all.iter().any(|test| test == *name))
    {
        bail!("no such test: {unknown}");
    }
    let guests: Vec<Guest> = Guest::all()
        .filter(|guest| match only {
            Some(only) => guest.name() == only,
            None => GUESTS.contains(guest),
        })
        .collect();
    ensure!(
        !guests.is_empty(),
        "no such guest: {}",
        only.unwrap_or_default()
    );
    let (mut heads, mut rest) = (Vec::new(), Vec::new());
    for guest in guests {
        let tests = all
            .iter()
            .filter(|test| only.is_some() || SMOKE.contains(&test.as_str()));
        let wanted = |test: &&String| {
            let named = Trial::test(name(guest, test), || Ok(()));
            !arguments.is_filtered_out(&named)
        };
        let tests: Vec<String> = tests.filter(wanted).cloned().collect();
        if tests.is_empty() {
            continue;
        }
        let suite = Arc::new(Suite {
            guest,
            tests,
            program: program.clone(),
            results: OnceLock::new(),
        });
        let mut trials = suite.tests.iter().map(|test| suite.trial(test));
        heads.extend(trials.next());
        rest.extend(trials);
    }
    Ok((heads, rest))
}

fn name(guest: Guest, test: &str) -> String {
    format!("{}::{test}", guest.name())
}

/// The program with the pod tests, as cargo makes it for this machine, and the names of its tests.
fn pods() -> Result<(PathBuf, Vec<String>)> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "test",
            "--quiet",
            "--locked",
            "--package=tests",
            "--test=pods",
            "--no-run",
        ])
        .arg("--message-format=json");
    let messages = process::run(cargo)?.expect(0)?.stdout;
    let mut program = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == "pods";
        ours.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    let program = program.next_back().context("cargo has made no pod tests")?;
    let mut list = Command::new(&program);
    list.arg("--list");
    let list = process::run(list)?.expect(0)?.stdout;
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok((program, tests.map(str::to_owned).collect()))
}

impl Suite {
    fn trial(self: &Arc<Self>, test: &str) -> Trial {
        let (suite, test) = (Arc::clone(self), test.to_owned());
        Trial::ignorable_test(name(self.guest, &test), move || ended(suite.result(&test)))
    }

    /// Boots the guest, if nobody has, and waits until it has run all its tests.
    fn result(&self, test: &str) -> Result<()> {
        let results = self
            .results
            .get_or_init(|| self.run().map_err(|error| format!("{error:#}")));
        let outcomes = results.as_ref().map_err(|error| anyhow!(error.clone()))?;
        let ended = outcomes.get(test);
        match ended.with_context(|| format!("the guest has told no result of {test}"))? {
            Ended::Passed => Ok(()),
            Ended::Failed(message) => Err(anyhow!(message.clone())),
            Ended::Skipped(reason) if self.may_skip(test, reason) => {
                Err(Skip(reason.clone()).into())
            }
            Ended::Skipped(reason) => Err(anyhow!("it must not be skipped: {reason}")),
        }
    }

    fn may_skip(&self, test: &str, why: &str) -> bool {
        let mut skipped = SKIPPED.iter();
        skipped.any(|(init, name, reason)| {
            *init == self.guest.init && test.starts_with(name) && why.starts_with(reason)
        })
    }

    fn run(&self) -> Result<Outcomes> {
        let scratch = tempfile::tempdir().context("make a scratch folder")?;
        let tests = self.tests.iter().fold(String::new(), |mut text, test| {
            let _ = writeln!(text, "{test}");
            text
        });
        let command = match self.guest.init {
            Init::Busybox => "sh /payload/run",
            // As from a shell, not in the service of the guest's agent.
            Init::Systemd => "systemd-run --scope --quiet -- sh /payload/run",
        };
        let config = with_pods(config(self.guest)?, scratch.path())?
            .file(&stripped(&self.program, scratch.path())?, "pods")
            .text("tests", &tests)
            .text("run", SCRIPT)
            .long_step("pods", command, LIMIT)
            .limit(LIMIT);
        let report = TestVm::new(config)?.finish()?;
        let outcomes = Outcomes::parse(report.output("pods"));
        // Such as when something was left behind by all of them.
        if !outcomes.any_failed() {
            report.expect("pods", &Status::Exited(0))?;
        }
        Ok(outcomes)
    }
}
