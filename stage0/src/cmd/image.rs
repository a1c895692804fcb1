//! Commands on images: `image import`, `list`, `rm`, `cat-manifest`.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanDuration};
use serde_json::{Map, Value, json};

use super::Context;
use super::output::{Format, print, print_json, print_table};
use crate::image::ImageSource;
use crate::notice::warn;
use crate::store::{ImportOptions, Store, StoredImage};

/// As many characters of an id as a table shows: they tell any two images apart that one machine has.
const SHOWN_ID: usize = "sha512-".len() + 12;

// Options of `image`.
#[derive(Debug, Args)]
pub(super) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take images into the store, and print their ids
    Import(Import),
    /// List the images in the store
    List(List),
    /// Remove images that no pod uses
    Rm(Rm),
    /// Print an image's manifest
    CatManifest(CatManifest),
}

#[derive(Debug, Args)]
struct Import {
    /// aci:FILE, oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], or the file or
    /// directory alone, whose kind is recognised
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<ImageSource>,
    /// The name of an OCI or docker image, in place of the one that it brings
    #[arg(long, value_name = "NAME[:VERSION]")]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    no_legend: bool,
}

#[derive(Debug, Args)]
struct Rm {
    /// The images: an id or a unique beginning of it, NAME, or NAME:VERSION
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Args)]
struct CatManifest {
    /// The image: its id or a unique beginning of it, NAME, or NAME:VERSION
    image: String,
}

impl Image {
    pub(super) fn execute(self, context: &Context) -> Result<()> {
        let store = Store::open(&context.data)?;
        match self.command {
            Command::Import(import) => import.execute(&store),
            Command::List(list) => list.execute(&store),
            Command::Rm(rm) => rm.execute(&store, context),
            Command::CatManifest(cat) => {
                let id = store.resolve(&cat.image)?;
                print(store.manifest(&id)?.to_json())
            }
        }
    }
}

impl Import {
    fn execute(self, store: &Store) -> Result<()> {
        if self.name.is_some() && self.sources.len() > 1 {
            bail!("--name: cannot be given to several images");
        }
        let options = ImportOptions { name: self.name };
        for source in &self.sources {
            let imported = store.import(source, &options)?;
            for warning in imported.warnings {
                warn(format_args!("{}: {warning}", source.path.display()));
            }
            print(format!("{}\n", imported.id))?;
        }
        Ok(())
    }
}

impl List {
    fn execute(self, store: &Store) -> Result<()> {
        let images = store.list()?;
        match self.format {
            Format::Json => print_json(&images.iter().map(listed).collect::<Vec<_>>()),
            Format::Text => {
                let header = ["ID", "NAME", "VERSION", "SIZE", "IMPORTED"];
                let header: &[&str] = if self.no_legend { &[] } else { &header };
                print_table(header, images.iter().map(row))
            }
        }
    }
}

fn listed(image: &StoredImage) -> Value {
    let labels = image.manifest.labels.iter();
    let labels: Map<_, _> = labels
        .map(|l| (l.name.to_string(), json!(l.value)))
        .collect();
    json!({
        "id": image.id,
        "name": image.manifest.name,
        "version": image.version(),
        "labels": labels,
        "size": image.size,
        "imported": humantime::format_rfc3339_seconds(imported(image)).to_string(),
    })
}

fn imported(image: &StoredImage) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(image.imported)
}

fn row(image: &StoredImage) -> Vec<String> {
    let age = imported(image).elapsed().unwrap_or_default();
    vec![
        image.id.as_str().chars().take(SHOWN_ID).collect(),
        image.manifest.name.to_string(),
        image.version().unwrap_or("-").to_owned(),
        HumanBytes(image.size).to_string(),
        format!("{} ago", HumanDuration(age)),
    ]
}

impl Rm {
    fn execute(self, store: &Store, context: &Context) -> Result<()> {
        for image in &self.images {
            let id = store.resolve(image)?;
            store.remove(&id, &|tree| context.pods.use_tree(tree))?;
        }
        Ok(())
    }
}
