//! The endpoints of an app of a running pod, from the host. The pod's root is the pod's: no link in it leads out.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::appc::AcName;
use common::pod::{PodDir, StageRoot};
use common::root::Root;
use common::spec::AppSpec;
use common::stream::Target;
use procfs::process::{Process, StatFlags};
use rustix::fs::OFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::endpoint;
use crate::watch::Watch;

/// How long the app may take from its start to its endpoints.
const START_TIME: Duration = Duration::from_secs(30);

/// An app of a pod.
pub(super) struct App<'a> {
    name: &'a AcName,
    root: Root,
    /// What can be attached to.
    pub(super) targets: Vec<Target>,
}

impl<'a> App<'a> {
    /// The app as the pod knows it.
    pub(super) fn open(dir: &PodDir, name: &'a AcName) -> Result<Self> {
        let path = dir.stage_root();
        let root = Root::open(path.path());
        let root = root.with_context(|| format!("open {}", path.path().display()))?;
        let path = paths().spec(name.as_str());
        let context = || format!("read {} of the pod", path.display());
        let Some(spec) = root.read(&path).with_context(context)? else {
            bail!("--app={name}: the pod has no such app");
        };
        let spec: AppSpec = serde_json::from_slice(&spec).with_context(context)?;
        let targets = spec.streams.map(|streams| streams.endpoints());
        Ok(App {
            name,
            root,
            targets: targets.unwrap_or_default(),
        })
    }

    /// Waits until the endpoints are there, which an app has while it runs.
    pub(super) fn endpoints(&self) -> Result<Endpoints> {
        let app = self.name.as_str();
        let deadline = Instant::now() + START_TIME;
        let open = |path: &Path, flags| self.root.open_at(path, flags);
        let watch = Watch::new()?;
        loop {
            // Before anything is looked for. Each comes to be in the one before, and is watched in the round after.
            for dir in self.dirs() {
                if let Ok(dir) = open(&dir, OFlags::PATH | OFlags::DIRECTORY) {
                    watch.add(dir)?;
                }
            }
            let dir = open(&paths().iottymux(app), OFlags::PATH | OFlags::DIRECTORY);
            let file = open(&paths().endpoints(app), OFlags::RDONLY | OFlags::NONBLOCK);
            if let (Ok(dir), Ok(file)) = (dir, file) {
                return Ok(Endpoints {
                    dir,
                    file: file.into(),
                });
            }
            let ended = self.root.read(&paths().status(app));
            if let Some(status) = ended.context("read the app's status")? {
                let status = String::from_utf8_lossy(&status);
                bail!(
                    "app {app} does not run: it has ended with status {}",
                    status.trim()
                );
            }
            if !watch.wait(deadline)? {
                bail!("app {app} does not run, or has closed its streams");
            }
        }
    }

    /// Where the app's end and its endpoints show, and where that place comes to be.
    fn dirs(&self) -> Vec<PathBuf> {
        let (paths, app) = (paths(), self.name.as_str());
        let status = paths.status(app);
        let mut dirs: Vec<_> = status.parent().map(Path::to_owned).into_iter().collect();
        let endpoints = paths.iottymux(app);
        let mut above: Vec<_> = endpoints.ancestors().map(Path::to_owned).collect();
        above.reverse();
        dirs.extend(above);
        dirs
    }
}

fn paths() -> StageRoot {
    StageRoot::new("/")
}

/// The endpoints of a run of an app.
pub(super) struct Endpoints {
    dir: OwnedFd,
    /// The file that names them, which is gone when the run is over.
    file: File,
}

impl Endpoints {
    /// Connects to a target.
    pub(super) fn connect(&self, target: Target) -> Result<OwnedFd> {
        let path = paths().endpoint("", target);
        self.connect_to(&path, SocketType::STREAM)
            .with_context(|| format!("connect to {} of the app", target.name()))
    }

    /// Connects to where the terminal's size is told.
    pub(super) fn connect_size(&self) -> Result<OwnedFd> {
        let path = paths().terminal_size("");
        self.connect_to(&path, SocketType::SEQPACKET)
            .context("connect to the size of the app's terminal")
    }

    fn connect_to(&self, path: &Path, kind: SocketType) -> Result<OwnedFd> {
        let name = path.file_name().context("no name")?;
        // It may be in the middle of taking over from one that has died: another socket comes then.
        let deadline = Instant::now() + START_TIME;
        let watch = Watch::new()?;
        watch.add(&self.dir)?;
        loop {
            let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
            match connect(&socket, &endpoint::address(&self.dir, name)?) {
                Ok(()) => return Ok(socket),
                Err(err) if !self.is_current() || !watch.wait(deadline)? => {
                    return Err(err.into());
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the run goes on, as far as is known.
    fn is_current(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() > 0)
    }

    /// Looks why a connection was closed.
    ///
    /// # Errors
    /// When it was by the death of what serves it.
    pub(super) fn check_end(&self, connection: &OwnedFd) -> Result<()> {
        let peer = socket_peercred(connection).context("look who has served the streams")?;
        // The order matters: who ends in order does away with the file before it is gone.
        if is_gone(peer.pid.as_raw_nonzero().get()) && self.is_current() {
            bail!("the connection was cut: what serves the app's streams, or the pod, was killed");
        }
        // The app has closed these streams, and maybe others not.
        Ok(())
    }
}

/// Whether a process has ended or is ending: the kernel marks one so (`PF_EXITING`) before it closes its descriptors.
fn is_gone(pid: i32) -> bool {
    let stat = Process::new(pid).and_then(|process| process.stat());
    let exiting = |flags| StatFlags::from_bits_truncate(flags).contains(StatFlags::PF_EXITING);
    stat.map_or(true, |stat| exiting(stat.flags))
}
