//! What state a pod is in.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::pod::PodDir;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::place::{Place, Pods};
use super::{lock, process};

/// The states of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its directory was just made.
    Embryo,
    /// Its directory is being filled.
    Preparing,
    /// It can be run.
    Prepared,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
    /// Its preparation never came to its end.
    Aborted,
    /// It is being deleted.
    Deleting,
}

impl State {
    /// The state that follows from the place, from whether somebody holds the lock and from whether processes of the
    /// pod live.
    pub fn of(place: Place, locked: bool, alive: impl FnOnce() -> bool) -> Self {
        match place {
            Place::Embryo => Self::Embryo,
            Place::Prepare if locked => Self::Preparing,
            Place::Prepare => Self::Aborted,
            Place::Prepared => Self::Prepared,
            // Without the lock too: a killed supervisor's parent leaves the apps running.
            Place::Run if locked || alive() => Self::Running,
            Place::Run => Self::Exited,
            Place::ExitedGarbage if locked => Self::Deleting,
            Place::ExitedGarbage => Self::Exited,
            Place::Garbage => Self::Deleting,
        }
    }

    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embryo => "embryo",
            Self::Preparing => "preparing",
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Aborted => "aborted",
            Self::Deleting => "deleting",
        }
    }
}

/// An open pod directory. It stays the same directory while it is renamed.
#[derive(Debug)]
pub struct Pod {
    /// The pod's UUID.
    pub uuid: Uuid,
    /// Where the directory was when it was opened.
    pub place: Place,
    fd: OwnedFd,
}

/// A pod and the state that it was seen in.
#[derive(Debug)]
pub struct Seen {
    /// The pod.
    pub pod: Pod,
    /// Its state.
    pub state: State,
}

impl Pod {
    /// Opens the pod directory if it is in `place`.
    pub fn open(pods: &Pods, place: Place, uuid: &Uuid) -> Result<Option<Self>> {
        let dir = pods.dir(place, uuid);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(dir.path(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                uuid: uuid.clone(),
                place,
                fd,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("open {}", dir.path().display())),
        }
    }

    /// The files of the pod, wherever its directory is renamed to. Valid while this pod is open.
    pub fn files(&self) -> PodDir {
        PodDir::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Whether the directory is still in its place.
    pub fn is_in_place(&self, pods: &Pods) -> Result<bool> {
        let dir = pods.dir(self.place, &self.uuid);
        let there = match rustix::fs::lstat(dir.path()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(err) => {
                return Err(err).with_context(|| format!("stat {}", dir.path().display()));
            }
        };
        let here = rustix::fs::fstat(&self.fd).context("stat the pod directory")?;
        Ok((there.st_dev, there.st_ino) == (here.st_dev, here.st_ino))
    }

    /// The pod's state, or `None` when it was moved meanwhile.
    fn state(&self, pods: &Pods, proc: &Path) -> Result<Option<State>> {
        // Elsewhere the lock says nothing, and looking at it would be in the way of who tries to take it.
        let matters = matches!(
            self.place,
            Place::Prepare | Place::Run | Place::ExitedGarbage
        );
        let locked =
            matters && lock::is_held(&self.fd).context("look at the lock of the pod directory")?;
        let state = State::of(self.place, locked, || {
            !process::of_pod(&self.files(), proc).is_empty()
        });
        // Moves are done under the lock: who still finds the directory in its place saw the lock of that place.
        Ok(self.is_in_place(pods)?.then_some(state))
    }
}

impl AsFd for Pod {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Pods {
    /// Looks for the pod `uuid` and at its state; `proc` is the proc file system.
    pub fn look(&self, uuid: &Uuid, proc: &Path) -> Result<Option<Seen>> {
        // A pod moves five times in its life: who has looked that often in vain looks at something else.
        for _ in 0..Place::ALL.len() {
            let mut pod = None;
            for place in Place::ALL {
                pod = Pod::open(self, place, uuid)?;
                if pod.is_some() {
                    break;
                }
            }
            let Some(pod) = pod else { return Ok(None) };
            if let Some(state) = pod.state(self, proc)? {
                return Ok(Some(Seen { pod, state }));
            }
        }
        bail!("look at pod {uuid}: it keeps moving")
    }

    /// [`Pods::look`], where a pod that is gone is an error.
    pub fn see(&self, uuid: &Uuid, proc: &Path) -> Result<Seen> {
        self.look(uuid, proc)?
            .with_context(|| format!("find pod {uuid}: there is none"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::lock::Lock;
    use super::*;

    const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    #[test]
    fn states_of_directories() {
        for (place, free, held) in [
            (Place::Embryo, State::Embryo, State::Embryo),
            (Place::Prepare, State::Aborted, State::Preparing),
            (Place::Prepared, State::Prepared, State::Prepared),
            (Place::Run, State::Exited, State::Running),
            (Place::ExitedGarbage, State::Exited, State::Deleting),
            (Place::Garbage, State::Deleting, State::Deleting),
        ] {
            let data = tempfile::tempdir().unwrap();
            let pods = Pods::new(data.path());
            let uuid: Uuid = UUID.parse().unwrap();
            let dir = pods.dir(place, &uuid);
            fs::create_dir_all(dir.path()).unwrap();
            let look = || pods.see(&uuid, Path::new("/proc")).unwrap();
            assert_eq!((look().pod.place, look().state), (place, free));
            let lock = Lock::try_exclusive(dir.path()).unwrap().unwrap();
            assert_eq!(look().state, held, "{place:?} locked");
            drop(lock);
        }
    }

    #[test]
    fn apps_that_outlive_the_lock_make_the_pod_running() {
        assert_eq!(State::of(Place::Run, false, || true), State::Running);
        assert_eq!(
            State::of(Place::ExitedGarbage, false, || true),
            State::Exited
        );
    }

    #[test]
    fn an_open_pod_follows_its_directory() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let uuid: Uuid = UUID.parse().unwrap();
        fs::create_dir_all(pods.dir(Place::Prepare, &uuid).path()).unwrap();
        let pod = Pod::open(&pods, Place::Prepare, &uuid).unwrap().unwrap();
        fs::write(pod.files().manifest(), "x").unwrap();
        let moved = pods.rename(&uuid, Place::Prepare, Place::Prepared).unwrap();
        assert_eq!(fs::read(pod.files().manifest()).unwrap(), b"x");
        assert!(pod.state(&pods, Path::new("/proc")).unwrap().is_none());
        assert_eq!(
            pods.see(&uuid, Path::new("/proc")).unwrap().state,
            State::Prepared
        );
        fs::remove_dir_all(moved.path()).unwrap();
        assert!(pods.look(&uuid, Path::new("/proc")).unwrap().is_none());
    }
}
