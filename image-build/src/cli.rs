//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Make the stage1 image from Debian packages, the entrypoints and the static tree.
#[derive(Debug, Parser)]
#[command(name = "image-build", version)]
pub(crate) struct Cli {
    /// Folder with the built entrypoints (static programs)
    #[arg(long, value_name = "DIR")]
    pub(crate) entrypoints: PathBuf,

    /// The static tree of the image, with the template of its manifest
    #[arg(long, value_name = "DIR")]
    pub(crate) rootfs: PathBuf,

    /// The image to write
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    pub(crate) output: Option<PathBuf>,

    /// Where downloaded packages are kept, by the hash of their content
    #[arg(long, value_name = "DIR", default_value = "build/cache/deb")]
    pub(crate) cache: PathBuf,

    /// Print each file of the image with its size and the package and version it is from
    #[arg(long)]
    pub(crate) list: bool,

    /// How --list prints
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        requires = "list"
    )]
    pub(crate) format: Format,

    /// Put network plugins into the image, for hosts that have none
    #[arg(long)]
    pub(crate) with_cni: bool,

    /// Kind of image: how the supervisor is started
    #[arg(long, value_enum, value_name = "NAME", default_value = "default")]
    pub(crate) flavor: Flavor,
}

/// How `--list` prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// A table
    Text,
    /// A list of objects
    Json,
}

/// The kinds of image.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Flavor {
    /// systemd in systemd-nspawn, both from the image
    Default,
}
