//! Lays out a pod directory.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use common::appc::{ImageId, PodManifest, Uuid};
use common::apply::belong;
use common::id_range::IdRange;
use common::pod::{PodDir, StageRoot};
use common::root::Root;
use common::user_namespace;

use super::delete::delete_tree;
use super::lock::Lock;
use super::overlay::Layers;
use super::undo::Undo;
use super::users::Users;
use super::{Place, Pods};
use crate::notice::warn;
use crate::store::{Store, Tree, owners};
use crate::whole;

/// What to prepare.
#[derive(Debug)]
pub struct Order<'a> {
    /// The pod's manifest.
    pub manifest: &'a PodManifest,
    /// The image of the stage1.
    pub stage1: &'a ImageId,
    /// Whether the roots are overlays, else plain copies.
    pub overlay: bool,
    /// Which ids it has, when it has a user namespace.
    pub users: Option<Users>,
    /// The host's `/etc`, whose ids it must not get.
    pub etc: &'a Path,
}

/// A pod that can be run.
#[derive(Debug)]
pub struct Prepared {
    /// Its UUID.
    pub uuid: Uuid,
    /// The lock on its directory.
    pub lock: Lock,
}

/// Makes a pod. A failure leaves nothing of it.
pub fn prepare(pods: &Pods, store: &Store, order: &Order<'_>) -> Result<Prepared> {
    let (uuid, lock) = pods.create()?;
    let mut undo = Undo::default();
    undo.push(|| {
        // Where it is depends on how far it came.
        let mut places = Place::ALL.into_iter();
        places.try_for_each(|place| delete_tree(pods.dir(place, &uuid).path()))
    });
    let pod = pods.rename(&uuid, Place::Embryo, Place::Prepare)?;
    fill(pods, &uuid, &pod, store, order).with_context(|| format!("prepare pod {uuid}"))?;
    pods.rename(&uuid, Place::Prepare, Place::Prepared)?;
    undo.keep();
    Ok(Prepared { uuid, lock })
}

fn fill(pods: &Pods, uuid: &Uuid, pod: &PodDir, store: &Store, order: &Order<'_>) -> Result<()> {
    touch(&pod.created())?;
    touch(&pod.manifest_lock())?;
    whole::write(&pod.manifest(), &order.manifest.to_json())?;
    let users = order
        .users
        .map(|users| pods.give_ids(uuid, users, order.etc));
    let users = users.transpose()?;
    let overlay = stage1(pods, pod, store, order, users)?;
    // Apps may come later.
    make_dir(&pod.apps_info())?;
    for app in &order.manifest.apps {
        let name = app.name.as_str();
        let image = &app.image.id;
        make_dir(&pod.app_info(name))?;
        let manifest = store.manifest(image)?;
        whole::write(&pod.app_image_manifest(name), &manifest.to_json())?;
        if overlay {
            let tree = store.render(image)?;
            let id = tree.id.to_string();
            make_layers(&Layers::of(pod, &id, Some(name)), &tree, users)
                .with_context(|| format!("app {name}"))?;
            whole::write(&pod.app_tree_id(name), id.as_bytes())?;
        } else {
            let root = pod.stage_root();
            make_dir(&root.app(name))?;
            render(store, image, &root.app_root(name), users)
                .with_context(|| format!("app {name}"))?;
            complete_app(pod, &root, name)?;
        }
    }
    if overlay {
        touch(&pod.overlay_prepared())?;
    }
    Ok(())
}

/// Makes the stage1 root, and says whether it is an overlay: those of the apps are the same then.
fn stage1(
    pods: &Pods,
    pod: &PodDir,
    store: &Store,
    order: &Order<'_>,
    users: Option<IdRange>,
) -> Result<bool> {
    let root = pod.stage_root();
    make_dir(root.path().parent().unwrap_or(root.path()))?;
    let manifest = store.manifest(order.stage1)?;
    whole::write(&pod.stage1_manifest(), &manifest.to_json())?;
    if order.overlay {
        let tree = store.render(order.stage1)?;
        let id = tree.id.to_string();
        let layers = Layers::of(pod, &id, None);
        make_layers(&layers, &tree, users).context("stage1")?;
        make_dir(root.path())?;
        let mapped = users.map_or(Ok(()), |users| {
            let users = user_namespace::with_ids(users)?;
            layers.try_mapped(pods, &tree.rootfs, root.path(), &users)
        });
        match mapped {
            Ok(()) => {
                whole::write(&pod.stage1_tree_id(), id.as_bytes())?;
                return Ok(true);
            }
            Err(err) => warn(format_args!("copying root file systems: {err:#}")),
        }
        layers.delete()?;
    }
    render(store, order.stage1, root.path(), users).context("stage1")?;
    Ok(false)
}

/// Makes the layers over a tree whose files all have owners in the pod.
pub fn make_layers(layers: &Layers, tree: &Tree, users: Option<IdRange>) -> Result<()> {
    if let Some(users) = users {
        owners::check(&tree.rootfs, users)?;
    }
    layers.make(&tree.rootfs, users)
}

/// Makes a plain root of an image.
pub fn render(store: &Store, image: &ImageId, root: &Path, users: Option<IdRange>) -> Result<()> {
    store.render_to(image, root)?;
    users.map_or(Ok(()), |users| owners::shift(root, users))
}

/// Puts beside and into the root of an app what stage0 owes it: its image manifest, and `/etc/mtab`.
pub fn complete_app(pod: &PodDir, root: &StageRoot, app: &str) -> Result<()> {
    let (from, to) = (pod.app_image_manifest(app), root.app_manifest(app));
    fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    belong(&to)?;
    let app_root = root.app_root(app);
    add_mtab(&app_root).with_context(|| format!("make etc/mtab in {}", app_root.display()))
}

/// Programs look for what is mounted in `/etc/mtab`: an image without one gets the link that distributions have.
fn add_mtab(app_root: &Path) -> Result<()> {
    let root = Root::open(app_root)?.keep_owner()?;
    let etc = root.make_dir(Path::new("/etc"))?;
    let mounts = Path::new("../proc/self/mounts");
    match root.make_link(mounts, &etc, OsStr::new("mtab")) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => Ok(made?),
    }
}

/// Makes a directory that everybody may look into, apps walk through some of them, and those above it that are missing.
pub fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    dir.parent().map_or(Ok(()), make_dir)?;
    let made = fs::DirBuilder::new().mode(0o755).create(dir);
    made.with_context(|| format!("make {}", dir.display()))?;
    belong(dir)
}

/// Makes an empty file.
pub fn touch(file: &Path) -> Result<()> {
    fs::write(file, "").with_context(|| format!("write {}", file.display()))?;
    belong(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mtab_is_added_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        add_mtab(dir.path()).unwrap();
        let mtab = dir.path().join("etc/mtab");
        assert_eq!(
            fs::read_link(&mtab).unwrap(),
            Path::new("../proc/self/mounts")
        );
        fs::remove_file(&mtab).unwrap();
        symlink("/no/where", &mtab).unwrap();
        add_mtab(dir.path()).unwrap();
        assert_eq!(fs::read_link(&mtab).unwrap(), Path::new("/no/where"));
    }

    #[test]
    fn mtab_stays_inside_of_the_image() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("etc")).unwrap();
        add_mtab(dir.path()).unwrap();
        assert!(!outside.path().join("mtab").is_symlink());
        let inside = dir.path().join(outside.path().strip_prefix("/").unwrap());
        assert!(inside.join("mtab").is_symlink());
    }
}
