//! The pod that is entered.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::cgroup::Hierarchies;
use common::main_process::MainProcess;
use common::pod::StageRoot;
use common::root::Root;
use procfs::process::Process;

use crate::supervisor::{self, LOOK_AGAIN};

/// How long the pod may take from its first process to its `/proc`.
const START_TIME: Duration = Duration::from_secs(30);

/// A pod, held by descriptors of its PID 1 and its root.
pub(super) struct Pod {
    /// Its PID 1.
    pub(super) init: OwnedFd,
    /// Its root. What is read there is read below it, whatever links lie in it.
    pub(super) root: Root,
}

impl Pod {
    /// The pod whose PID 1 has the host's pid `pid`, when it has come so far that its `/proc` is mounted.
    pub(super) fn open(pid: &str) -> Result<Self> {
        let mut init = supervisor::pod_init(pid)?;
        let proc = Path::new("/proc").join(pid);
        let path = proc.join("root");
        let deadline = Instant::now() + START_TIME;
        loop {
            let start = Process::new_with_root(proc.clone()).and_then(|process| process.stat());
            let root = Root::open(&path).with_context(|| format!("open {}", path.display()));
            // Alive still, so it is the root of this process.
            if supervisor::wait(&init, Some(Duration::ZERO))? {
                bail!("--pid={pid}: the process has ended, the pod is not running");
            }
            let start = start.with_context(|| format!("read {}/stat", proc.display()))?;
            let (root, first) = (
                root?,
                MainProcess {
                    pid: 1,
                    start: start.starttime,
                },
            );
            let pod = Pod { init, root };
            if pod.process(1).is_ok_and(|process| first.is(&process)) {
                return Ok(pod);
            }
            if Instant::now() >= deadline {
                bail!("--pid={pid}: the pod has not mounted its /proc within {START_TIME:?}");
            }
            init = pod.init;
            supervisor::wait(&init, Some(LOOK_AGAIN))?;
        }
    }

    /// Reads a file of the pod, `path` being one of [`Pod::paths`]; `None` when there is none.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let content = self.root.read(path);
        content.with_context(|| format!("read {} of the pod", path.display()))
    }

    /// The paths of the contract, as the pod sees them.
    pub(super) fn paths(&self) -> StageRoot {
        StageRoot::new("/")
    }

    /// The process that has the pid `pid` in the pod.
    pub(super) fn process(&self, pid: i32) -> Result<Process> {
        let path = Path::new("/proc").join(self.name(pid));
        Process::new_with_root(path).with_context(|| format!("look at process {pid} of the pod"))
    }

    /// All processes of the pod that can be looked at.
    pub(super) fn processes(&self) -> impl Iterator<Item = Process> {
        let proc = Path::new("/proc").join(self.proc());
        let all = procfs::process::all_processes_with_root(proc);
        all.into_iter().flatten().flatten()
    }

    /// The cgroups of that process.
    pub(super) fn cgroups(&self, pid: i32) -> Result<Hierarchies> {
        let name = self.name(pid).to_string_lossy().into_owned();
        Hierarchies::of_process(Path::new("/proc"), &name)
            .with_context(|| format!("look at the cgroups of process {pid} of the pod"))
    }

    /// Moves this process into the cgroups of the pod's PID 1.
    pub(super) fn join_cgroups(&self) -> Result<()> {
        let name = self.name(1).to_string_lossy().into_owned();
        Hierarchies::join_those_of(Path::new("/proc"), &name).context("join the pod's cgroups")
    }

    /// Where a process of the pod is below the host's `/proc`: in the pod's own, which its root holds.
    fn name(&self, pid: i32) -> PathBuf {
        self.proc().join(pid.to_string())
    }

    /// Where the pod's own `/proc` is below the host's.
    fn proc(&self) -> PathBuf {
        let root = self.root.as_fd().as_raw_fd();
        PathBuf::from(format!("self/fd/{root}/proc"))
    }
}
