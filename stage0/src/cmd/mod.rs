//! The command line.

mod app;
mod apps;
mod attach;
mod enter;
mod gc;
mod image;
mod logs;
mod manifest;
mod options;
pub mod output;
mod pods;
mod prepare;
mod run;
mod split;
mod usage;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::notice::warn;
use crate::pod::{Pods, stage1};
use split::AppWords;

/// The exit status of failures of ours, as the contract has it for entrypoints.
const FAILURE: u8 = 254;

/// Runs pods of container images on a stage1.
#[derive(Debug, Parser)]
#[command(
    name = "stage0",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Globals {
    /// Where images and pods are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/stage0"
    )]
    dir: PathBuf,
    /// The stage1 image; by default stage1.aci beside this program, else in /usr/lib/stage0
    #[arg(long, global = true, value_name = "FILE")]
    stage1: Option<PathBuf>,
    /// Say more: one cause of an error a line, and messages of the stage1
    #[arg(long, global = true)]
    debug: bool,
}

// What a command has is made when it is named: for all of them that takes longer than most commands do. A doc comment of
// the options' type would take the place of the command's own then.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Import, list and remove images
    Image(image::Image),
    /// Make a pod ready to run, and print its UUID
    #[command(
        override_usage = "stage0 prepare [OPTIONS] IMAGE [APP OPTIONS] [-- ARGS…] [--- IMAGE …]"
    )]
    Prepare(prepare::Prepare),
    /// Run a prepared pod
    RunPrepared(run::RunPrepared),
    /// Prepare a pod and run it; the exit status is that of the first app that fails
    #[command(override_usage = "stage0 run [OPTIONS] IMAGE [APP OPTIONS] [-- ARGS…] [--- IMAGE …]")]
    Run(run::Run),
    /// Change the apps of a running pod
    #[command(subcommand)]
    App(app::App),
    /// List pods
    List(pods::List),
    /// Show the state of a pod
    Status(pods::Status),
    /// Print a pod's manifest
    CatManifest(pods::CatManifest),
    /// Show what the apps of a pod have said
    Logs(logs::Logs),
    /// Execute a command in an app of a running pod, confined as the app is
    #[command(override_usage = "stage0 enter [--app=APP] UUID [CMD [ARGS…]]")]
    Enter(enter::Enter),
    /// Attach to the streams of an app of a running pod
    Attach(attach::Attach),
    /// Stop running pods
    Stop(pods::Stop),
    /// Remove pods that do not run
    Rm(gc::Rm),
    /// Remove pods that have ended or were left behind
    Gc(gc::Gc),
}

/// What every command knows.
struct Context {
    /// The data directory, absolute.
    data: PathBuf,
    pods: Pods,
    proc: PathBuf,
    stage1: Option<PathBuf>,
    debug: bool,
}

impl Context {
    fn new(globals: Globals) -> Result<Self> {
        let data = std::path::absolute(&globals.dir)
            .with_context(|| format!("find {}", globals.dir.display()))?;
        Ok(Self {
            pods: Pods::new(&data),
            data,
            proc: PathBuf::from("/proc"),
            stage1: globals.stage1,
            debug: globals.debug,
        })
    }

    /// The file of the stage1 image.
    fn stage1_file(&self) -> Result<PathBuf> {
        match &self.stage1 {
            Some(file) => Ok(file.clone()),
            None => {
                let program = std::env::current_exe().context("find this program")?;
                stage1::default_file(&program, Path::new("/usr/lib/stage0"))
            }
        }
    }
}

/// Runs the program with its arguments, the first of which is its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let debug = args.iter().any(|arg| arg == "--debug");
    match execute(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            if let Some(usage) = err.downcast_ref::<clap::Error>() {
                return usage::report(usage);
            }
            if debug {
                let causes: Vec<String> = err.chain().map(ToString::to_string).collect();
                warn(causes.join("\n  because: "));
            } else {
                warn(format_args!("{err:#}"));
            }
            ExitCode::from(FAILURE)
        }
    }
}

fn execute(args: Vec<OsString>) -> Result<()> {
    let mut command = Cli::command();
    let (words, apps) = take_apps(&command, args)?;
    let matches = command.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    common::kernel::check()?;
    let context = Context::new(cli.globals)?;
    match cli.command {
        Command::Image(image) => image.execute(&context),
        Command::Prepare(prepare) => prepare.execute(&context, apps),
        Command::RunPrepared(run) => run.execute(&context),
        Command::Run(run) => run.execute(&context, apps),
        Command::App(app) => app.execute(&context, apps),
        Command::List(list) => list.execute(&context),
        Command::Status(status) => status.execute(&context),
        Command::CatManifest(cat) => cat.execute(&context),
        Command::Logs(logs) => logs.execute(&context),
        Command::Enter(enter) => enter.execute(&context),
        Command::Attach(attach) => attach.execute(&context),
        Command::Stop(stop) => stop.execute(&context),
        Command::Rm(rm) => rm.execute(&context),
        Command::Gc(gc) => gc.execute(&context),
    }
}

/// Takes the words of the apps out of a command line that has some; the rest is for clap.
fn take_apps(
    command: &clap::Command,
    args: Vec<OsString>,
) -> Result<(Vec<OsString>, Vec<AppWords>)> {
    let Some(at) = subcommand_position(command, &args) else {
        return Ok((args, Vec::new()));
    };
    // How many words name the subcommand, its options, and how many arguments come before the image.
    let (depth, options, leading) =
        match (args[at].to_str(), args.get(at + 1).and_then(|w| w.to_str())) {
            (Some("run"), _) => (1, run::Run::augment_args(clap::Command::new("run")), 0),
            (Some("prepare"), _) => (
                1,
                prepare::Prepare::augment_args(clap::Command::new("prepare")),
                0,
            ),
            (Some("app"), Some("add")) => (2, app::Add::augment_args(clap::Command::new("add")), 1),
            _ => return Ok((args, Vec::new())),
        };
    let mut words = args;
    let tail = words.split_off(at + depth);
    let app = options::AppOptions::command();
    let split = split::split(tail, leading, &[&options, command], &app)?;
    words.extend(split.pod);
    Ok((words, split.apps))
}

/// Where the subcommand is: the first word that is no option, nor the value of one.
fn subcommand_position(command: &clap::Command, args: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = args.get(at)?.to_string_lossy();
        let Some(long) = word.strip_prefix("--") else {
            if word.starts_with('-') {
                at += 1;
                continue;
            }
            return Some(at);
        };
        let option = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(long));
        at += match option.is_some_and(split::takes_next_word) {
            true => 2,
            false => 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        options::AppOptions::command().debug_assert();
    }

    #[test]
    fn every_help_begins_as_the_list_has_it() {
        let listed = Cli::command();
        let mut whole = Cli::command();
        whole.build();
        same_abouts(&listed, &whole);
        let app = whole.find_subcommand("app").unwrap();
        let mut deferred = Cli::command();
        let matches = deferred.try_get_matches_from_mut(["stage0", "app", "list", "u"]);
        matches.unwrap();
        same_abouts(deferred.find_subcommand("app").unwrap(), app);
    }

    fn same_abouts(listed: &clap::Command, whole: &clap::Command) {
        for command in listed.get_subcommands() {
            let name = command.get_name();
            let about = whole.find_subcommand(name).unwrap().get_about();
            assert_eq!(command.get_about(), about, "{name}");
        }
    }

    #[test]
    fn apps_are_taken_from_run_and_prepare() {
        let command = Cli::command();
        for (line, rest, apps) in [
            ("stage0", "stage0", 0),
            ("stage0 --help", "stage0 --help", 0),
            ("stage0 list", "stage0 list", 0),
            ("stage0 status run a", "stage0 status run a", 0),
            ("stage0 --dir run list", "stage0 --dir run list", 0),
            ("stage0 --dir d run a b", "stage0 --dir d run", 2),
            (
                "stage0 --dir=d --debug prepare a",
                "stage0 --dir=d --debug prepare",
                1,
            ),
            (
                "stage0 run a --user 1 --dir d --net=host",
                "stage0 run --dir d --net=host",
                1,
            ),
            ("stage0 run a -- --help", "stage0 run", 1),
            ("stage0 run --help a", "stage0 run --help", 1),
            ("stage0 app add u a --user 1 -- x", "stage0 app add u", 1),
            ("stage0 --debug app list u", "stage0 --debug app list u", 0),
        ] {
            let (words, taken) = take_apps(&command, words(line)).unwrap();
            let shown: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
            assert_eq!(
                (shown.join(" ").as_str(), taken.len()),
                (rest, apps),
                "{line}"
            );
        }
    }
}
