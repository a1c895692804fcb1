//! The `journalctl` that reads a pod's journal.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use common::plan::{LIBRARIES, LOADER};
use common::pod::PodDir;

use crate::pod::run::read_tree_id;
use crate::pod::{Pods, Seen};
use crate::store::Store;

/// Where it is in a stage1 and on a host.
const PROGRAM: &str = "usr/bin/journalctl";

/// The path by which a child comes to what is open here, wherever it is moved to.
pub(super) fn path_for_child(open: &impl AsFd) -> PathBuf {
    let fd = open.as_fd().as_raw_fd();
    PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()))
}

/// A program that can be called.
#[derive(Debug)]
pub(super) enum Journalctl {
    /// The stage1's in this root, which runs without libraries of the host.
    OfStage1(PathBuf),
    /// The host's.
    OfHost(PathBuf),
}

impl Journalctl {
    /// The one of the pod's stage1: it knows what the journald of the same image writes. A stage1 of another kind may
    /// have none; then the host's.
    pub(super) fn find(pods: &Pods, seen: &Seen) -> Result<Self> {
        let files = seen.pod.files();
        // The tree in the store is as it was made, and there after a reboot too; in the pod it may be mounted or not.
        let of_store = read_tree_id(&files.stage1_tree_id())
            .and_then(|id| Store::open(pods.data())?.tree(&id))
            .map(|tree| tree.rootfs);
        let of_pod = PodDir::new(path_for_child(&seen.pod)).stage_root();
        let roots = of_store.ok().into_iter().chain([of_pod.path().to_owned()]);
        for root in roots {
            if root.join(PROGRAM).exists() && root.join(LOADER).exists() {
                return Ok(Self::OfStage1(root));
            }
        }
        let of_host = Path::new("/").join(PROGRAM);
        if !of_host.exists() {
            bail!("find journalctl: neither the pod's stage1 nor the host has {PROGRAM}");
        }
        Ok(Self::OfHost(of_host))
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = match self {
            Self::OfHost(program) => Command::new(program),
            Self::OfStage1(root) => {
                // Relative to the root, whose own path may have characters that mean something to the loader.
                let mut command = Command::new(root.join(LOADER));
                command.current_dir(root);
                command.args(["--library-path", &LIBRARIES.join(":")]);
                command.args(["--argv0", "journalctl", PROGRAM]);
                command
            }
        };
        command.args(["--quiet", "--no-pager", "--directory"]);
        command.arg(folder);
        command.stdin(Stdio::null());
        command
    }

    /// Starts it with these arguments.
    pub(super) fn start(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Reading> {
        let complaints = tempfile::tempfile().context("make a temporary file")?;
        let mut command = self.command(folder);
        command.args(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(complaints.try_clone()?);
        let child = command.spawn().context("execute journalctl")?;
        Ok(Reading { child, complaints })
    }

    /// What it prints with these arguments.
    pub(super) fn text(&self, folder: &Path, arguments: &[&str]) -> Result<String> {
        let mut reading = self.start(folder, arguments)?;
        let mut text = String::new();
        let mut stdout = reading.output()?;
        stdout
            .read_to_string(&mut text)
            .context("read from journalctl")?;
        reading.finish()?;
        Ok(text)
    }
}

/// One that runs. It is killed when this is dropped.
pub(super) struct Reading {
    pub(super) child: Child,
    complaints: File,
}

impl Reading {
    /// What it prints, which is taken once.
    pub(super) fn output(&mut self) -> Result<BufReader<ChildStdout>> {
        let stdout = self.child.stdout.take();
        Ok(BufReader::new(stdout.context("output of journalctl")?))
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn finish(mut self) -> Result<()> {
        let status = self.child.wait().context("wait for journalctl")?;
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        self.complaints.rewind()?;
        let _ = self.complaints.read_to_string(&mut said);
        match said.lines().last() {
            Some(line) => bail!("journalctl: {line}"),
            None => bail!("journalctl: {status}"),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Both fail harmlessly for one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
