//! The entrypoints of stage1: one module each, and a one-line program of the same name in `src/bin`.
//!
//! | program | runs | does |
//! |---|---|---|
//! | [`init`] | on the host, as the pod's run entrypoint | makes the pod, then becomes its supervisor |
//! | [`enter`] | on the host | runs a command in the pod |
//! | [`stop`] | on the host | stops the pod, in order or by force |
//! | [`gc`] | on the host | frees what outlives the pod |
//! | [`app_add`] | on the host | makes an app known to a running pod |
//! | [`app_start`], [`app_stop`], [`app_rm`] | on the host | start, stop, forget an app of a running pod |
//! | [`attach`] | on the host | attaches to the streams of an app |
//! | [`manage`] | in the pod, for the four | asks systemd, takes away what is left of an app |
//! | [`pid1`] | in the pod, before systemd | lets systemd use the pod's cgroups, sets kernel parameters |
//! | [`prepare_app`] | in the pod, as the process of an app's unit | makes the app's root, becomes the app |
//! | [`health`] | in the pod, time and again | looks whether an app is well |
//! | [`iottymux`] | in the pod, when an app needs it | serves the streams of apps to those who attach |
//! | [`reaper`] | in the pod, when an app has ended | writes its exit status |
//! | [`shutdown`] | in the pod, as PID 1 when systemd is done | completes the journal, ends with the pod's exit status |
//!
//! What stage0 calls them with, and what they leave in the pod directory, is the contract: interface version 6.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

pub mod app_add;
pub mod app_rm;
pub mod app_start;
pub mod app_stop;
pub mod attach;
mod crossing;
mod ending;
mod endpoint;
pub mod enter;
pub mod gc;
pub mod health;
pub mod init;
mod inside;
pub mod iottymux;
mod journal;
pub mod manage;
mod manager;
mod network;
mod notify;
mod passed;
pub mod pid1;
pub mod prepare_app;
pub mod reaper;
pub mod shutdown;
mod start_report;
pub mod stop;
mod supervisor;
mod terminal;
mod watch;

/// The exit status of a failure of ours, as opposed to one of the program that is run.
pub const FAILURE: u8 = 254;

/// What every program's `main` does: run, and explain a failure in one line.
pub fn main(name: &str, run: fn(Vec<OsString>) -> Result<ExitCode>) -> ExitCode {
    // They could not be made: build.rs leaves the tables for it out of the programs.
    common::sys::without_backtraces();
    match run(std::env::args_os().skip(1).collect()) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("{name}: {err:#}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Prints the answer to `--help`.
fn print_help(text: &str) -> Result<ExitCode> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print the help")?;
    Ok(ExitCode::SUCCESS)
}

/// The one word after the flags: the pod's UUID.
fn uuid(rest: &[String]) -> Result<common::appc::Uuid> {
    match rest {
        [uuid] => uuid.parse().with_context(|| format!("{uuid:?}")),
        _ => anyhow::bail!("needs the UUID of the pod and nothing else, got {rest:?}, see --help"),
    }
}
