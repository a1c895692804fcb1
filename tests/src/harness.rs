//! The main of a tier of tests that start pods: skips them with a reason where they can't run, several at a time where
//! they can, and looks for leftovers when all is done.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Error, Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::fixture::Way;
use crate::leftovers::Marks;

/// A test: its name and what it does.
pub struct Case {
    name: String,
    way: Way,
    body: fn() -> Result<()>,
}

impl Case {
    /// A test called `subject::name`.
    pub fn new(subject: &str, name: &str, body: fn() -> Result<()>) -> Self {
        Self {
            name: format!("{subject}::{name}"),
            way: Way::Run,
            body,
        }
    }

    /// The same test with apps that are added to pods that run.
    pub fn added(subject: &str, name: &str, body: fn() -> Result<()>) -> Self {
        Self {
            name: format!("added::{subject}::{name}"),
            way: Way::Added,
            body,
        }
    }

    /// The same test with pods that have a user namespace.
    pub fn users(subject: &str, name: &str, body: fn() -> Result<()>) -> Self {
        Self {
            name: format!("users::{subject}::{name}"),
            way: Way::Users,
            body,
        }
    }
}

impl Case {
    /// The test's whole name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same test for its runner.
    pub fn trial(self) -> Trial {
        let Self { name, way, body } = self;
        Trial::ignorable_test(name, move || ended(way.go(body)))
    }
}

/// Why a test can't run on this host. As its error, it makes that the test counts as ignored, with the reason.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// How a test has ended, for its runner.
pub fn ended(result: Result<()>) -> Result<Completion, Failed> {
    let failed = |error: &Error| Failed::from(format!("{error:#}"));
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref() {
            Some(Skip(reason)) => Ok(Completion::ignored_with(reason)),
            None => Err(failed(&error)),
        },
    }
}

/// Lists the functions of a module as [`Case`]s. Those after `both ways:` are run once more with apps that are added to
/// pods that run, and those that are listed again after `with users:` once more with pods that have a user namespace.
#[macro_export]
macro_rules! cases {
    ($subject:literal: $($only:ident),* ; both ways: $($name:ident),+ $(,)?
     $(; with users: $($user:ident),+ $(,)?)?) => {
        /// The tests of this module.
        pub(crate) fn cases() -> Vec<$crate::harness::Case> {
            vec![
                $($crate::harness::Case::new($subject, stringify!($only), $only),)*
                $($crate::harness::Case::new($subject, stringify!($name), $name),)+
                $($crate::harness::Case::added($subject, stringify!($name), $name),)+
                $($($crate::harness::Case::users($subject, stringify!($user), $user),)+)?
            ]
        }
    };
    ($subject:literal: $($only:ident),* ; with users: $($user:ident),+ $(,)?) => {
        /// The tests of this module.
        pub(crate) fn cases() -> Vec<$crate::harness::Case> {
            vec![
                $($crate::harness::Case::new($subject, stringify!($only), $only),)*
                $($crate::harness::Case::users($subject, stringify!($user), $user),)+
            ]
        }
    };
    ($subject:literal: $($name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub(crate) fn cases() -> Vec<$crate::harness::Case> {
            vec![$($crate::harness::Case::new($subject, stringify!($name), $name)),+]
        }
    };
}

struct Tier {
    scratch: tempfile::TempDir,
    probe: PathBuf,
    uuids: Mutex<BTreeSet<String>>,
}

static TIER: OnceLock<Tier> = OnceLock::new();

fn tier() -> &'static Tier {
    TIER.get().expect("tests run under harness::main")
}

/// A directory that lives as long as the test program.
pub fn scratch() -> &'static Path {
    tier().scratch.path()
}

/// The probe program, stripped so that images stay small; `STAGE1_PROBE` names one that is so already.
pub fn probe() -> &'static Path {
    &tier().probe
}

/// A command on a kernel that has no such system call.
pub fn without(call: &str, command: &Command) -> Command {
    let mut hidden = Command::new(probe());
    hidden.args(["without", call]).arg(command.get_program());
    hidden.args(command.get_args());
    let set = command.get_envs();
    hidden.envs(set.filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        hidden.current_dir(dir);
    }
    hidden
}

/// Where `scripts/build` puts things, or what `STAGE1_BUILD_DIR` says.
pub fn build_dir() -> PathBuf {
    let other = std::env::var_os("STAGE1_BUILD_DIR").map(PathBuf::from);
    other.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build"))
}

/// Remembers pods, so that leftovers are looked for by their names at the end.
pub fn note_pods(uuids: impl IntoIterator<Item = String>) {
    tier().uuids.lock().expect("never poisoned").extend(uuids);
}

/// Runs the tests that the command line asks for; they need the probe and these files of [`build_dir`].
pub fn main(probe: &Path, built: &[&str], cases: Vec<Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cases = match chosen(cases) {
        Ok(cases) => cases,
        Err(error) => {
            note(&format!("can't choose the tests: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    // More than there are cores: pods wait most of their time. And company shows what does not bear it.
    arguments.test_threads.get_or_insert(4);
    let unfit = unfit(built);
    let required = std::env::var_os("STAGE1_REQUIRE_ROOT").is_some_and(|value| value == "1");
    if let Some(reason) = &unfit {
        note(&format!(
            "{} tests {}: {reason}",
            cases.len(),
            if required { "fail" } else { "skipped" }
        ));
        if required {
            return ExitCode::FAILURE;
        }
    } else if let Err(error) = set_up(probe) {
        note(&format!("can't prepare the tests: {error:#}"));
        return ExitCode::FAILURE;
    }
    // The message is told with the result; here only where.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            note(&format!("failed at {place}"));
        }
    }));
    let trials = cases
        .into_iter()
        .map(|case| case.trial().with_ignored_flag(unfit.is_some()));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let clean = unfit.is_some() || left_clean();
    if conclusion.has_failed() || !clean {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The tests whose names are the lines of the file that `STAGE1_TESTS` names; all where it names none.
fn chosen(mut cases: Vec<Case>) -> Result<Vec<Case>> {
    let Some(path) = std::env::var_os("STAGE1_TESTS").map(PathBuf::from) else {
        return Ok(cases);
    };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut names: BTreeSet<&str> = text.lines().collect();
    cases.retain(|case| names.remove(case.name.as_str()));
    ensure!(names.is_empty(), "{}: unknown: {names:?}", path.display());
    Ok(cases)
}

/// Why pods can't be run here.
fn unfit(built: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("pods need root".into());
    }
    let missing = built
        .iter()
        .map(|name| build_dir().join(name))
        .find(|path| !path.exists());
    missing.map(|path| format!("scripts/build has not made {}", path.display()))
}

fn set_up(probe: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("stage1-tests-")
        .tempdir()
        .context("make a scratch directory")?;
    let probe = match std::env::var_os("STAGE1_PROBE") {
        Some(stripped) => stripped.into(),
        None => stripped(probe, scratch.path())?,
    };
    let tier = Tier {
        scratch,
        probe,
        uuids: Mutex::default(),
    };
    TIER.set(tier).map_err(|_| anyhow::anyhow!("set up twice"))
}

/// Makes a copy of a program without what only a debugger reads, which is most of it.
pub fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program without a name")?;
    let copy = folder.join(name);
    let strip = Command::new("strip")
        .arg("-o")
        .arg(&copy)
        .arg(program)
        .status()
        .context("run strip")?;
    ensure!(strip.success(), "strip {}: {strip}", program.display());
    Ok(copy)
}

/// Looks for leftovers of all pods, takes them away, and removes the scratch directory.
fn left_clean() -> bool {
    let uuids = tier().uuids.lock().expect("never poisoned").clone();
    let marks = Marks::new(uuids.iter().map(String::as_str), &[scratch()]);
    let found = marks.found();
    for line in &found {
        note(&format!("left behind: {line}"));
    }
    marks.clear();
    let _ = std::fs::remove_dir_all(scratch());
    found.is_empty()
}

fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
