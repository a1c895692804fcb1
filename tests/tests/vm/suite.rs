//! The pod tests inside guests: the same program as on this machine, with its results told here one by one. A test whose
//! result has not come back is a failure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tests::harness::{Skip, ended, stripped};
use tests::process;
use tests::vm::{Cgroups, Config, Ended, Guest, Init, Outcomes, Status, TestVm};

use super::bench::{built, config, with_pods};

/// Guests in which all tests run when the whole is asked for. They come first then: they take the longest.
const WHOLE: &[Guest] = &[
    Guest::new(Init::Systemd, Cgroups::Unified),
    Guest::new(Init::Systemd, Cgroups::Hybrid),
];

/// Tests of all subjects in which hosts differ: what runs in the other guests.
const SMOKE: &[&str] = &[
    "added::resources::memory_ends_who_takes_more",
    "app_life::a_pod_outlives_its_apps_and_takes_them_along",
    "attach::both_outputs_are_told_apart",
    "cgroups::apps_write_to_none",
    "death::of_the_supervisor",
    "devices::others_cannot_be_made_or_opened",
    "ending::gc_takes_old_ones",
    "ending::stop_is_orderly",
    "enter::the_only_app_and_its_shell",
    "filesystem::root_is_the_same_without_overlay",
    "isolators::each_has_a_report",
    "logs_command::lines_of_several_apps",
    "logs_kubernetes::pods_with_user_namespaces",
    "passed::sockets_are_given_to_the_apps_of_their_names",
    "resources::memory_ends_who_takes_more",
    "resources::of_the_pod_are_out_of_its_reach",
    "resources::processes",
    "users::cgroups::apps_write_to_none",
    "users::files_of_overlays_are_of_the_range",
    "users::owners_of_volumes_can_be_mapped",
    "users::resources::memory_ends_who_takes_more",
    "users::resources::processes",
    "users_apps::that_the_pod_was_run_with_go",
    "volumes::read_only_holds_for_what_is_mounted_in_it",
];

/// Guests with Linux 6.1, and why they skip tests that mount what is in memory with other owners.
const OLDER: &[Init] = &[Init::Busybox, Init::Systemd];
const UNMAPPED: &str = "this kernel maps no owners of a tmpfs";

/// Tests that guests have not what it takes for, and the beginning of the reason that they must give. Any other test that
/// is skipped is a failure.
const SKIPPED: &[(&[Init], &str, &str)] = &[
    (&[Init::Busybox], "logs::", "this host has no journalctl"),
    (&[Init::Busybox], "app_life::", "this host has no systemctl"),
    (OLDER, "users::owners_of_volumes_can_be_mapped", UNMAPPED),
    (
        OLDER,
        "logs_kubernetes::pods_with_user_namespaces",
        UNMAPPED,
    ),
];

/// How long all of them may take: only what hangs gets here.
const LIMIT: Duration = Duration::from_secs(75 * 60);

/// Runs the tests as the only user of the guest. Their pods lie in memory, which is quicker than the emulated disk. Those of
/// many pods have fewer than on this machine: they took a sixth of the time of all. What is written beside the results
/// goes to the console, so that it does not stand in the middle of one.
const SCRIPT: &str = "
mkdir /scratch
mount -t tmpfs -o mode=755,size=75% tmpfs /scratch
export TMPDIR=/scratch STAGE1_BUILD_DIR=/payload STAGE1_PROBE=/payload/probe
export STAGE1_TESTS=/payload/tests STAGE1_CHURN_PODS=20
exec /payload/pods --test-threads=3 --color=never 2>/dev/console
";

/// The pod tests of one guest.
struct Suite {
    guest: Guest,
    tests: Vec<String>,
    program: PathBuf,
    results: OnceLock<Result<Outcomes, String>>,
    /// Whether a test has told why there are no results.
    told: AtomicBool,
}

/// The trials of all guests, or of the one that is asked for: the first of each, which boots it, and the others. All tests
/// run in one that is asked for, and with `whole` in those of [`WHOLE`].
pub(super) fn trials(
    arguments: &Arguments,
    only: Option<&str>,
    whole: bool,
) -> Result<(Vec<Trial>, Vec<Trial>)> {
    let mut guests: Vec<Guest> = Guest::all().collect();
    if let Some(only) = only {
        guests.retain(|guest| guest.name() == only);
        ensure!(!guests.is_empty(), "no such guest: {only}");
    }
    let runs_all = |guest: &Guest| only.is_some() || whole && WHOLE.contains(guest);
    guests.sort_by_key(|guest| !runs_all(guest));
    let (program, all) = pods()?;
    let smoke: Vec<String> = SMOKE.iter().copied().map(str::to_owned).collect();
    let unknown = smoke.iter().find(|test| !all.contains(test));
    ensure!(unknown.is_none(), "no such test: {unknown:?}");
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for guest in guests {
        let tests = if runs_all(&guest) { &all } else { &smoke };
        let mut trials = of_guest(arguments, guest, &program, tests).into_iter();
        first.extend(trials.next());
        others.extend(trials);
    }
    Ok((first, others))
}

fn of_guest(arguments: &Arguments, guest: Guest, program: &Path, tests: &[String]) -> Vec<Trial> {
    let wanted = |test: &&String| {
        let named = Trial::test(name(guest, test), || Ok(()));
        !arguments.is_filtered_out(&named)
    };
    let suite = Arc::new(Suite {
        guest,
        tests: tests.iter().filter(wanted).cloned().collect(),
        program: program.to_owned(),
        results: OnceLock::new(),
        told: AtomicBool::new(false),
    });
    suite.tests.iter().map(|test| suite.trial(test)).collect()
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
        // Whatever is missing here makes that all tests are skipped.
        let config = config(self.guest)?;
        built()?;
        let run = || self.run(config).map_err(|error| format!("{error:#}"));
        let outcomes = match self.results.get_or_init(run) {
            Ok(outcomes) => outcomes,
            // With the guest's console, which is long.
            Err(error) if !self.told.swap(true, Ordering::Relaxed) => bail!(error.clone()),
            Err(_) => bail!("the guest has failed, as another test of it tells"),
        };
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
        skipped.any(|(inits, name, reason)| {
            inits.contains(&self.guest.init) && test.starts_with(name) && why.starts_with(reason)
        })
    }

    fn run(&self, config: Config) -> Result<Outcomes> {
        let scratch = tempfile::tempdir().context("make a scratch folder")?;
        let tests = self.tests.iter().fold(String::new(), |mut text, test| {
            let _ = writeln!(text, "{test}");
            text
        });
        let command = match self.guest.init {
            Init::Busybox => "sh /payload/run",
            // As from a shell, not in the service of the guest's agent.
            Init::Systemd | Init::Systemd257 => "systemd-run --scope --quiet -- sh /payload/run",
        };
        let config = with_pods(config, scratch.path())?
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
