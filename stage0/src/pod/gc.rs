//! Removes pods.
//!
//! A pod that has run goes through [`Place::ExitedGarbage`], where its stage1's gc entrypoint frees what outlives the
//! pod, then through [`Place::Garbage`], where its files are deleted. Each step can be taken again by the next command
//! when this one dies.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use common::annotation::entrypoint;
use common::appc::Uuid;
use common::pod::{PodDir, STAGE_ROOT};

use super::delete::delete_tree;
use super::entrypoint::Stage1;
use super::lock::Lock;
use super::mounts::{is_mounted, no_links, unmount_below};
use super::overlay::unmount_root;
use super::run::mount_stage1;
use super::undo::Undo;
use super::{Place, Pod, Pods, State, process};
use crate::notice::warn;
use crate::store::Store;

/// Removes pods of a data directory.
#[derive(Debug)]
pub struct Collector<'a> {
    /// The pods.
    pub pods: &'a Pods,
    /// The proc file system.
    pub proc: &'a Path,
    /// Whether entrypoints are to be talkative.
    pub debug: bool,
}

/// How long pods are kept.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// After they were found to have ended.
    pub exited: Duration,
    /// After they were prepared.
    pub prepared: Duration,
}

impl Collector<'_> {
    /// Removes a pod that does not run.
    pub fn remove(&self, uuid: &Uuid) -> Result<()> {
        let seen = self.pods.see(uuid, self.proc)?;
        match seen.state {
            State::Running => bail!("remove pod {uuid}: it is running"),
            State::Preparing => bail!("remove pod {uuid}: it is being prepared"),
            _ => {}
        }
        if !self.remove_from(&seen.pod)? {
            bail!("remove pod {uuid}: somebody else runs or removes it");
        }
        Ok(())
    }

    /// Removes everything that nobody needs: what has ended or was left behind, and expired pods. Goes on after an error.
    pub fn collect(&self, grace: Grace) -> Result<()> {
        let mut failed = 0;
        for place in Place::ALL {
            for uuid in self.pods.uuids_in(place)? {
                if let Err(err) = self.collect_one(place, &uuid, grace) {
                    warn(format_args!("{err:#}"));
                    failed += 1;
                }
            }
        }
        match failed {
            0 => Ok(()),
            _ => bail!("collect garbage: {failed} pods could not be removed"),
        }
    }

    fn collect_one(&self, place: Place, uuid: &Uuid, grace: Grace) -> Result<()> {
        // Moved meanwhile: by somebody else, or a pod marked just now, which is met again in its next place.
        let Some(seen) = self.pods.look(uuid, self.proc)? else {
            return Ok(());
        };
        let pod = &seen.pod;
        if pod.place != place {
            return Ok(());
        }
        match (place, seen.state) {
            (Place::Run, State::Exited) => {
                if self.lock(pod)?.is_some() {
                    self.pods.rename(uuid, place, Place::ExitedGarbage)?;
                }
            }
            (Place::Prepared, _) if age(pod)? < grace.prepared => {}
            (Place::ExitedGarbage, _) if age(pod)? < grace.exited => {}
            (_, State::Running | State::Preparing) => {}
            _ => {
                if self.remove_from(pod)? {
                    warn(format_args!("removed pod {uuid} ({})", seen.state.as_str()));
                }
            }
        }
        Ok(())
    }

    /// Removes a pod from where it is; false if somebody else is at it.
    fn remove_from(&self, pod: &Pod) -> Result<bool> {
        let _sweep = match pod.place {
            Place::Embryo => Some(self.pods.lock_embryos()?),
            _ => None,
        };
        let Some(_lock) = self.lock(pod)? else {
            return Ok(false);
        };
        let uuid = &pod.uuid;
        let mut place = pod.place;
        if place == Place::Run {
            self.pods.rename(uuid, place, Place::ExitedGarbage)?;
            place = Place::ExitedGarbage;
        }
        if place == Place::ExitedGarbage {
            let dir = self.pods.dir(place, uuid);
            self.free(&dir, uuid)
                .with_context(|| format!("remove pod {uuid}"))?;
        }
        let garbage = match place {
            Place::Garbage => self.pods.dir(place, uuid),
            _ => self.pods.rename(uuid, place, Place::Garbage)?,
        };
        // Nothing may be mounted here; what is must not be deleted.
        unmount_below(garbage.path(), self.proc)?;
        delete_tree(garbage.path())?;
        Ok(true)
    }

    /// Locks a pod that was seen; `None` when somebody else has it or has moved it.
    ///
    /// A change of its apps that the pod's end has met is waited for: it takes back what it has done.
    fn lock(&self, pod: &Pod) -> Result<Option<(Lock, Option<Lock>)>> {
        let dir = self.pods.dir(pod.place, &pod.uuid);
        let lock = match pod.place {
            // Whoever takes one of these keeps it for long: never wait for it.
            Place::Embryo | Place::Prepared => Lock::try_exclusive(dir.path()),
            _ => Lock::unless_held(dir.path()),
        };
        match lock {
            Ok(Some(lock)) => {
                let file = dir.manifest_lock();
                let has_run = pod.place == Place::Run && file.exists();
                let changes = has_run.then(|| Lock::of_file(&file)).transpose()?;
                Ok(pod.is_in_place(self.pods)?.then_some((lock, changes)))
            }
            Ok(None) => Ok(None),
            Err(_) if !pod.is_in_place(self.pods)? => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Frees what outlives a pod besides its files.
    fn free(&self, dir: &PodDir, uuid: &Uuid) -> Result<()> {
        if dir.stage1_manifest().exists() {
            self.call_gc(dir, uuid)?;
        }
        if !process::of_pod(dir, self.proc).is_empty() {
            bail!("processes of it live on in its cgroup");
        }
        unmount_below(dir.path(), self.proc)
    }

    fn call_gc(&self, dir: &PodDir, uuid: &Uuid) -> Result<()> {
        let mut undo = Undo::default();
        // What cannot be called must not keep the pod for ever; that nothing of it lives is looked at afterwards.
        if let Err(err) = self.reach_gc(dir, &mut undo) {
            warn(format_args!(
                "pod {uuid}: its gc entrypoint is not run: {err:#}"
            ));
            return Ok(());
        }
        let debug: &[&str] = if self.debug { &["--debug"] } else { &[] };
        Stage1::of(dir)?.call(dir, entrypoint::GC, debug, uuid)
    }

    /// Has the root there that the entrypoint is in: after a reboot the overlay is gone.
    fn reach_gc(&self, dir: &PodDir, undo: &mut Undo<'_>) -> Result<()> {
        // Whatever was made of the directory: no program from elsewhere is run.
        no_links(dir.path(), Path::new(STAGE_ROOT))?;
        let root = dir.stage_root();
        if dir.overlay_prepared().exists() && !is_mounted(root.path(), self.proc)? {
            // Whoever owns its files: the program that is called looks at none of them.
            mount_stage1(self.pods, &Store::open(self.pods.data())?, dir, None)?;
            undo.push(move || unmount_root(root.path()));
        }
        Ok(())
    }
}

/// For how long the pod has been in its place: a rename changes the directory's change time.
fn age(pod: &Pod) -> Result<Duration> {
    let files = pod.files();
    let stat = fs::metadata(files.path()).with_context(|| format!("stat pod {}", pod.uuid))?;
    let changed = UNIX_EPOCH
        + Duration::from_secs(stat.ctime().try_into().unwrap_or(0))
        + Duration::from_nanos(stat.ctime_nsec().try_into().unwrap_or(0));
    // A clock that was set back makes a pod young.
    Ok(SystemTime::now()
        .duration_since(changed)
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    fn grace(exited: u64, prepared: u64) -> Grace {
        Grace {
            exited: Duration::from_secs(exited),
            prepared: Duration::from_secs(prepared),
        }
    }

    /// Where a pod that was in `place` is after a collection.
    fn after(place: Place, grace: Grace, held: bool) -> Option<Place> {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let uuid: Uuid = UUID.parse().unwrap();
        for place in Place::ALL {
            fs::create_dir_all(pods.folder(place)).unwrap();
        }
        let dir = pods.dir(place, &uuid);
        fs::create_dir_all(dir.path().join("some/file")).unwrap();
        let _lock = held.then(|| Lock::exclusive(dir.path()).unwrap());
        let collector = Collector {
            pods: &pods,
            proc: Path::new("/proc"),
            debug: false,
        };
        collector.collect(grace).unwrap();
        let found = |place: &Place| pods.dir(*place, &uuid).path().exists();
        Place::ALL.into_iter().find(found)
    }

    #[test]
    fn what_nobody_needs_is_removed() {
        for place in Place::ALL {
            assert_eq!(after(place, grace(0, 0), false), None, "{place:?}");
        }
    }

    #[test]
    fn what_somebody_holds_stays() {
        for place in Place::ALL {
            assert_eq!(after(place, grace(0, 0), true), Some(place), "{place:?}");
        }
    }

    #[test]
    fn grace_is_given() {
        assert_eq!(
            after(Place::Run, grace(100, 0), false),
            Some(Place::ExitedGarbage)
        );
        let kept = after(Place::ExitedGarbage, grace(100, 0), false);
        assert_eq!(kept, Some(Place::ExitedGarbage));
        assert_eq!(
            after(Place::Prepared, grace(0, 100), false),
            Some(Place::Prepared)
        );
        assert_eq!(after(Place::Prepare, grace(100, 100), false), None);
    }

    #[test]
    fn running_and_preparing_pods_are_not_removed() {
        for (place, word) in [(Place::Run, "running"), (Place::Prepare, "being prepared")] {
            let data = tempfile::tempdir().unwrap();
            let pods = Pods::new(data.path());
            let uuid: Uuid = UUID.parse().unwrap();
            let dir = pods.dir(place, &uuid);
            fs::create_dir_all(dir.path()).unwrap();
            let _lock = Lock::exclusive(dir.path()).unwrap();
            let collector = Collector {
                pods: &pods,
                proc: Path::new("/proc"),
                debug: false,
            };
            assert_eq!(
                collector.remove(&uuid).unwrap_err().to_string(),
                format!("remove pod {UUID}: it is {word}")
            );
        }
    }
}
