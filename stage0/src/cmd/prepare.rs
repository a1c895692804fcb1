//! `prepare`.

use anyhow::Result;
use clap::Args;

use super::options::{PodOptions, app_help};
use super::output::print;
use super::split::AppWords;
use super::values::{self, Insecure};
use super::{Context, apps};
use crate::whole;

// Options of `prepare`.
#[derive(Debug, Args)]
#[command(after_help = app_help())]
pub(super) struct Prepare {
    #[command(flatten)]
    pod: PodOptions,
    /// image or none, which change nothing; what else there is to go without is an option of run-prepared
    #[arg(long, value_name = "LIST", default_value = "none", value_parser = values::insecure)]
    insecure_options: Insecure,
}

impl Prepare {
    pub(super) fn execute(self, context: &Context, apps: Vec<AppWords>) -> Result<()> {
        if self.insecure_options != Insecure::default() {
            anyhow::bail!(
                "--insecure-options: give capabilities, paths and seccomp to run-prepared"
            );
        }
        let (_store, _, prepared) = apps::prepare_pod(context, &self.pod, apps)?;
        let line = format!("{}\n", prepared.uuid);
        if let Some(file) = &self.pod.uuid_file_save {
            whole::write(file, line.as_bytes())?;
        }
        print(line)
    }
}
