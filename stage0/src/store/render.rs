//! Making root file systems of images.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use common::appc::{ImageId, ImageManifest};

use super::metadata::Metadata;
use super::progress::Progress;
use super::record::{Layer, Record};
use super::tree::{self, ROOTFS, Tree, TreeId};
use super::unpack::{self, Format};
use super::writer::TreeWriter;
use super::{Store, copy, whitelist};
use crate::image::compression;
use crate::image::digest::{self, HashingReader};

/// How deep images may depend on images.
const MAX_DEPTH: usize = 32;

/// An image with the images that it depends on.
struct Plan {
    id: ImageId,
    manifest: ImageManifest,
    dependencies: Vec<Plan>,
}

impl Plan {
    /// This image and all below it, each with its depth.
    fn images(&self, depth: usize, out: &mut Vec<(usize, ImageId)>) {
        out.push((depth, self.id.clone()));
        for dependency in &self.dependencies {
            dependency.images(depth + 1, out);
        }
    }
}

impl Store {
    /// Renders an image into the store for use below an overlay, once: a tree that is there already is
    /// returned.
    pub fn render(&self, id: &ImageId) -> Result<Tree> {
        let plan = self.plan(id, &mut Vec::new())?;
        let mut images = Vec::new();
        plan.images(0, &mut images);
        let tree = TreeId::of(&images);
        let target = self.layout.tree(&tree);
        if !self.is_sound(&tree)? {
            // Two that need the same tree now need not both make it.
            let _lock = self.layout.lock_tree(&tree)?;
            if !self.is_sound(&tree)? {
                self.discard(&target)?;
                self.make_tree(&plan, images, &target)?;
            }
        }
        Ok(Tree {
            id: tree,
            rootfs: target.join(ROOTFS),
        })
    }

    /// Renders an image into the directory `dest`, which must be missing or empty. Its owner, mode and
    /// times become those of the image's root. On failure it is left empty.
    pub fn render_to(&self, id: &ImageId, dest: &Path) -> Result<()> {
        let plan = self.plan(id, &mut Vec::new())?;
        let context = || format!("render {id} in {}", dest.display());
        prepare(dest)?;
        let result = self.assemble(&plan, dest);
        if result.is_err() {
            let empty = || -> io::Result<_> { Ok(super::delete::content(File::open(dest)?)?) };
            empty().with_context(context)?;
        }
        result.with_context(context)
    }

    fn plan(&self, id: &ImageId, above: &mut Vec<ImageId>) -> Result<Plan> {
        let manifest = self.manifest(id)?;
        if above.contains(id) {
            bail!("image {}: dependencies: depends on itself", manifest.name);
        }
        if above.len() >= MAX_DEPTH {
            bail!("image {}: dependencies: are nested too deep", manifest.name);
        }
        above.push(id.clone());
        let mut dependencies = Vec::new();
        for (at, dependency) in manifest.dependencies.iter().enumerate() {
            let context = || format!("image {}: dependencies[{at}]", manifest.name);
            let found = self.dependency(dependency).with_context(context)?;
            dependencies.push(self.plan(&found, above)?);
        }
        above.pop();
        Ok(Plan {
            id: id.clone(),
            manifest,
            dependencies,
        })
    }

    fn make_tree(&self, plan: &Plan, images: Vec<(usize, ImageId)>, target: &Path) -> Result<()> {
        let scratch = self.layout.scratch()?;
        let rootfs = scratch.path().join(ROOTFS);
        prepare(&rootfs)
            .and_then(|()| self.assemble(plan, &rootfs))
            .with_context(|| format!("render {}", plan.id))?;
        let images = images.into_iter().map(|(_, image)| image).collect();
        tree::describe(scratch.path(), images)?;
        scratch.publish(target)
    }

    /// Puts the files of the dependencies, in their order, and then those of the image itself into `dest`.
    fn assemble(&self, plan: &Plan, dest: &Path) -> Result<()> {
        let mut writer = TreeWriter::new(dest)?;
        // Until an archive says otherwise.
        writer.directory(Path::new(""), &Metadata::directory())?;
        self.assemble_into(plan, &mut writer)?;
        if !plan.manifest.path_whitelist.is_empty() {
            whitelist::keep(dest, &plan.manifest.path_whitelist, &mut writer)?;
        }
        writer.finish()
    }

    fn assemble_into(&self, plan: &Plan, writer: &mut TreeWriter) -> Result<()> {
        for dependency in &plan.dependencies {
            if dependency.manifest.path_whitelist.is_empty() {
                self.assemble_into(dependency, writer)?;
            } else {
                // Its list is about its own files, not about those that are here already.
                let scratch = self.layout.scratch()?;
                self.assemble(dependency, scratch.path())?;
                copy::tree(scratch.path(), writer)?;
            }
        }
        let record = Record::read(&self.layout.image(&plan.id))?;
        for layer in &record.layers {
            self.apply(layer, record.format, writer)
                .with_context(|| format!("layer {}", layer.blob))?;
        }
        Ok(())
    }

    fn apply(&self, layer: &Layer, format: Format, writer: &mut TreeWriter) -> Result<()> {
        let path = self.layout.blob(&layer.blob);
        let open = || File::open(&path).with_context(|| format!("open {}", path.display()));
        if layer.whiteouts {
            let (_, archive) = compression::decoder(BufReader::new(open()?))?;
            unpack::whiteouts(archive, writer)?;
        }
        let progress = Progress::bytes("unpacking", layer.size);
        let reader = progress.wrap(BufReader::new(open()?));
        let (_, archive) = compression::decoder(reader)?;
        let mut hashed = HashingReader::new(archive, layer.diff.algorithm())?;
        unpack::unpack(&mut hashed, format, writer)?;
        // The disk may have changed what was checked when it was imported.
        digest::check(&hashed.finish()?.0, &layer.diff)
    }
}

/// Makes an empty directory, that nobody else enters until it has the image's mode.
fn prepare(dest: &Path) -> Result<()> {
    let context = || format!("make {}", dest.display());
    match fs::DirBuilder::new().mode(0o700).create(dest) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dest).with_context(context)?;
            if entries.next().is_some() {
                bail!("{}: is not empty", dest.display());
            }
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(dest, private).with_context(context)
        }
        other => other.with_context(context),
    }
}
