//! The pod and driver tests inside guests: the same programs as on this machine, with their results told here one by one. A
//! test whose result has not come back is a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
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
    Guest::new(Init::Busybox, Cgroups::Unified),
];

/// Tests of all subjects in which hosts differ: what runs in the other guests, and of the driver's (`driver::…`) in those
/// of [`WHOLE`].
const SMOKE: &[&str] = &[
    "added::resources::memory_ends_who_takes_more",
    "app_life::a_pod_outlives_its_apps_and_takes_them_along",
    "attach::both_outputs_are_told_apart",
    "cgroups::apps_write_to_none",
    "death::of_the_supervisor",
    "devices::others_cannot_be_made_or_opened",
    "driver::apps::come_and_go_where_mounts_are_private",
    "driver::crossing::entered_program_is_in_the_pods_cgroup",
    "driver::end::kill_of_the_supervisor_leaves_a_pod_that_can_be_stopped",
    "driver::files::subcgroup_is_the_pods_own",
    "driver::gc::of_a_pod_with_hostile_files",
    "driver::gc::of_survivors",
    "driver::users::apps_are_added",
    "ending::gc_takes_old_ones",
    "ending::stop_is_orderly",
    "enter::ends_with_its_app",
    "enter::the_only_app_and_its_shell",
    "enter_stopped::its_unit_goes_with_it",
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

/// The programs with tests that run inside guests: what our stage0 does, and what the contract's entrypoints do for any.
const PODS: &str = "pods";
const DRIVER: &str = "driver";

/// How long all tests of a program may take: only what hangs gets here.
const LIMIT: Duration = Duration::from_secs(75 * 60);

/// Runs the tests of the program that it is given, as the only user of the guest. Their pods lie in memory, which is quicker
/// than the emulated disk. Those of many pods or of all points of a change have fewer than on this machine: they
/// took the longest. What is written beside the results goes to the console, so that it does not stand in the middle of
/// one.
const SCRIPT: &str = "
[ -d /scratch ] || { mkdir /scratch && mount -t tmpfs -o mode=755,size=75% tmpfs /scratch; }
export TMPDIR=/scratch STAGE1_BUILD_DIR=/payload STAGE1_PROBE=/payload/probe
export STAGE1_TESTS=/payload/$1.tests STAGE1_MANY=8 STAGE1_STRIDE=4
exec /payload/$1 --test-threads=3 --color=never 2>/dev/console
";

/// A program with tests, and which of them are asked for.
#[derive(Clone)]
struct Program {
    /// [`PODS`] or [`DRIVER`].
    name: &'static str,
    path: PathBuf,
    tests: Vec<String>,
}

/// The tests that run inside one guest.
struct Suite {
    guest: Guest,
    /// Whether these are all pod tests, not the smoke set.
    whole: bool,
    programs: Vec<Program>,
    results: OnceLock<Result<Results, String>>,
    /// Whether a test has told why there are no results.
    told: AtomicBool,
}

/// By the names of the programs.
type Results = BTreeMap<&'static str, Outcomes>;

/// The trials of all guests, or of the one that is asked for: the first of each, which boots it, and the others. All tests
/// run in one that is asked for, and with `whole` all pod tests in those of [`WHOLE`].
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
    let all = [program(PODS)?, program(DRIVER)?];
    let labels: Vec<String> = all.iter().flat_map(Program::labels).collect();
    let unknown = SMOKE
        .iter()
        .find(|test| !labels.iter().any(|label| label == *test));
    ensure!(unknown.is_none(), "no such test: {unknown:?}");
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for guest in guests {
        let whole = runs_all(&guest);
        let programs = all.iter().filter_map(|program| match program.name {
            PODS if whole => Some(program.clone()),
            PODS => Some(program.smoke()),
            _ if only.is_some() => Some(program.clone()),
            // What takes time in the others are loops over all that can fail, which no host makes different.
            _ => WHOLE.contains(&guest).then(|| program.smoke()),
        });
        let programs = programs.collect();
        let mut trials = of_guest(arguments, guest, whole, programs).into_iter();
        first.extend(trials.next());
        others.extend(trials);
    }
    Ok((first, others))
}

fn of_guest(
    arguments: &Arguments,
    guest: Guest,
    whole: bool,
    mut programs: Vec<Program>,
) -> Vec<Trial> {
    for Program { name, tests, .. } in &mut programs {
        tests.retain(|test| {
            let named = Trial::test(trial_name(guest, &label(name, test)), || Ok(()));
            !arguments.is_filtered_out(&named)
        });
    }
    programs.retain(|program| !program.tests.is_empty());
    let suite = Arc::new(Suite {
        guest,
        whole,
        programs,
        results: OnceLock::new(),
        told: AtomicBool::new(false),
    });
    let programs = suite.programs.iter();
    let tests = programs.flat_map(|program| program.tests.iter().map(|test| (program.name, test)));
    tests
        .map(|(program, test)| suite.trial(program, test))
        .collect()
}

/// What a test is called in [`SMOKE`]: a pod test by its name, one of the driver's `driver::NAME`.
fn label(program: &str, test: &str) -> String {
    match program {
        PODS => test.to_owned(),
        _ => format!("{program}::{test}"),
    }
}

fn trial_name(guest: Guest, label: &str) -> String {
    format!("{}::{label}", guest.name())
}

impl Program {
    fn labels(&self) -> impl Iterator<Item = String> {
        self.tests.iter().map(|test| label(self.name, test))
    }

    /// The same with those of [`SMOKE`] alone.
    fn smoke(&self) -> Self {
        let mut smoke = self.clone();
        let chosen = |test: &String| SMOKE.contains(&label(self.name, test).as_str());
        smoke.tests.retain(chosen);
        smoke
    }
}

/// A program with tests as cargo makes it for this machine, and all that it has.
fn program(name: &'static str) -> Result<Program> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "test",
            "--quiet",
            "--locked",
            "--package=tests",
            "--no-run",
            "--test",
            name,
        ])
        .arg("--message-format=json");
    let messages = process::run(cargo)?.expect(0)?.stdout;
    let mut made = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == name;
        ours.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    let path = made.next_back();
    let path = path.with_context(|| format!("cargo has made no tests called {name}"))?;
    let mut list = Command::new(&path);
    list.arg("--list");
    let list = process::run(list)?.expect(0)?.stdout;
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let tests = tests.map(str::to_owned).collect();
    Ok(Program { name, path, tests })
}

impl Suite {
    fn trial(self: &Arc<Self>, program: &'static str, test: &str) -> Trial {
        let (suite, test) = (Arc::clone(self), test.to_owned());
        let name = trial_name(self.guest, &label(program, &test));
        Trial::ignorable_test(name, move || ended(suite.result(program, &test)))
    }

    /// Boots the guest, if nobody has, and waits until it has run all its tests.
    fn result(&self, program: &str, test: &str) -> Result<()> {
        // Whatever is missing here makes that all tests are skipped.
        let config = config(self.guest)?;
        built()?;
        let run = || self.run(config).map_err(|error| format!("{error:#}"));
        let results = match self.results.get_or_init(run) {
            Ok(results) => results,
            // With the guest's console, which is long.
            Err(error) if !self.told.swap(true, Ordering::Relaxed) => bail!(error.clone()),
            Err(_) => bail!("the guest has failed, as another test of it tells"),
        };
        let ended = results.get(program).and_then(|outcomes| outcomes.get(test));
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

    fn run(&self, mut config: Config) -> Result<Results> {
        if self.whole && self.guest.init == Init::Busybox {
            config = config.with_debians_programs();
        }
        let scratch = tempfile::tempdir().context("make a scratch folder")?;
        config = with_pods(config, scratch.path())?
            .text("run", SCRIPT)
            .limit(LIMIT);
        for Program { name, path, tests } in &self.programs {
            let tests = tests.iter().fold(String::new(), |mut text, test| {
                let _ = writeln!(text, "{test}");
                text
            });
            let command = match self.guest.init {
                Init::Busybox => format!("sh /payload/run {name}"),
                // As from a shell, not in the service of the guest's agent.
                Init::Systemd | Init::Systemd257 => {
                    format!("systemd-run --scope --quiet -- sh /payload/run {name}")
                }
            };
            config = config
                .file(&stripped(path, scratch.path())?, name)
                .text(&format!("{name}.tests"), &tests)
                .long_step(name, &command, LIMIT);
        }
        let report = TestVm::new(config)?.finish()?;
        let of = |program: &Program| {
            let outcomes = Outcomes::parse(report.output(program.name));
            // Such as when something was left behind by all of them.
            if !outcomes.any_failed() {
                report.expect(program.name, &Status::Exited(0))?;
            }
            Ok((program.name, outcomes))
        };
        self.programs.iter().map(of).collect()
    }
}
