//! Makes the stage1 image: a root file system from Debian packages, pruned to the programs that a pod needs and the
//! libraries that these need, with our static entrypoints and the static tree of `rootfs/`, packed as an ACI.
//!
//! ```text
//!           rootfs/ ──┐
//!       entrypoints ──┼─> tree ──> check ──> pack
//! apt ─> deb ─> closure ─┘
//! ```
//!
//! The same inputs give the same bytes: entries are sorted, owners, times and modes are fixed, and the compressor is a
//! pinned dependency. What Debian packages go in is decided by apt's lists at the time of the build, and written down
//! in the image (`usr/share/stage1/packages.json`).

mod apt;
mod check;
mod cli;
mod closure;
mod command;
mod deb;
mod elf;
mod inventory;
mod manifest;
mod pack;
mod tree;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Format};

/// The exit status of this project's own failures.
const FAILURE: u8 = 254;

/// Parses the command line, builds, and reports a failure in one line.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match run(&cli) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("image-build: {error:#}");
                ExitCode::from(FAILURE)
            }
        },
        Err(error) => {
            let failed = error.use_stderr();
            // Nothing is left to say where even this can't be written.
            let _ = error.print();
            if failed {
                ExitCode::from(FAILURE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    // Our own files first: what is missing there is told before anything is downloaded.
    let mut tree = tree::Tree::default();
    tree.add_static(&cli.rootfs)?;
    tree.add_entrypoints(&cli.entrypoints)?;
    let manifest = manifest::from_template(&cli.rootfs.join(manifest::TEMPLATE))?;
    check::entrypoints(&tree, &manifest)?;

    let choice = closure::Choice {
        plugins: cli.with_cni,
    };
    let packages = apt::fetch(&choice.packages(), &cli.cache)?;
    progress(&format!("unpacking {} packages", packages.len()));
    closure::add(&mut tree, &deb::unpack(&packages)?, choice)?;
    tree.add_filters()?;
    inventory::add(&mut tree, &packages)?;
    check::programs(&tree)?;

    if cli.list {
        let files = inventory::files(&tree, &packages);
        let text = match cli.format {
            Format::Text => inventory::text(&files),
            Format::Json => inventory::json(&files)?,
        };
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
            .context("write the list")?;
    }
    if let Some(output) = &cli.output {
        progress(&format!(
            "packing {} entries, {}",
            tree.len(),
            megabytes(tree.size())
        ));
        if cli.with_cni {
            let plugins = closure::plugins_size(&tree);
            progress(&format!("of these network plugins: {}", megabytes(plugins)));
        }
        let size = pack::write(output, &manifest, &tree)?;
        progress(&format!("{}: {}", output.display(), megabytes(size)));
    }
    Ok(())
}

fn progress(line: &str) {
    eprintln!("image-build: {line}");
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}
