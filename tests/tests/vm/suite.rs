//! The pod tests inside a guest that is asked for: the same program as on this machine, with its results told here one by one. A test
//! whose result has not come back is a failure.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tests::harness::{Skip, ended, stripped};
use tests::process;
use tests::vm::{Ended, Guest, Init, Outcomes, Status, TestVm};

use super::bench::{config, with_pods};

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

/// The trials of a guest. The first that runs boots it.
pub(super) fn trials(arguments: &Arguments, guest: &str) -> Result<Vec<Trial>> {
    let found = Guest::all().find(|one| one.name() == guest);
    let guest = found.with_context(|| format!("no such guest: {guest}"))?;
    let (program, mut tests) = pods()?;
    tests.retain(|test| {
        let named = Trial::test(name(guest, test), || Ok(()));
        !arguments.is_filtered_out(&named)
    });
    let suite = Arc::new(Suite {
        guest,
        tests,
        program,
        results: OnceLock::new(),
    });
    Ok(suite.tests.iter().map(|test| suite.trial(test)).collect())
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
