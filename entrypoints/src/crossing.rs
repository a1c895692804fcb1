//! What the entrypoints that change a running pod have in common (contract.md, "Crossing entrypoints"): they start on
//! the host, in the pod directory, and reach into the pod by the program that the environment names.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use common::appc::AcName;
use common::flags::{Flag, Parsed, switch, value};
use common::options::RunOptions;
use common::pod::{PodDir, StageRoot};

use crate::supervisor;

/// The app that it is about.
pub(crate) const APP: Flag = value("app", "APP", "the app");
/// More messages.
pub(crate) const DEBUG: Flag = switch("debug", "print more messages");

/// The variables of the protocol.
const ENTER: &str = "RKT_STAGE1_ENTERCMD";
const PID: &str = "RKT_STAGE1_ENTERPID";

/// The program in the pod that does what is asked.
const MANAGE: &str = "/manage";

/// A running pod, and one of its apps.
pub(crate) struct Crossing {
    /// The pod.
    pub(crate) dir: PodDir,
    /// How it is run.
    pub(crate) options: RunOptions,
    /// The app.
    pub(crate) app: AcName,
    /// The pod's PID 1.
    pub(crate) init: OwnedFd,
    enter: String,
    pid: String,
}

impl Crossing {
    /// Takes the app from the command line and the pod from the environment and the working directory.
    ///
    /// # Errors
    /// When the pod is not one that may be changed, or is not what the environment says.
    pub(crate) fn new(flags: &Parsed) -> Result<Self> {
        ensure!(
            flags.rest.is_empty(),
            "takes no words beside its options, got {:?}, see --help",
            flags.rest
        );
        let app = flags.value("app").context("--app: must be given")?;
        let app = app.parse().with_context(|| format!("--app={app}"))?;
        common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
        let dir = PodDir::new(".");
        let options = RunOptions::read(&dir.runtime_config())?;
        if !options.mutable {
            bail!(
                "the pod cannot be changed: it was neither run with --mutable nor has its manifest the annotation {}",
                common::annotation::MUTABLE
            );
        }
        let enter = variable(ENTER)?;
        let RunningPod { dir, pid, init } = running_pod()?;
        Ok(Crossing {
            dir,
            options,
            app,
            init,
            enter,
            pid,
        })
    }

    /// Does `words` for the app in the pod. What is told there without being an error is told here.
    ///
    /// # Errors
    /// Those of the program in the pod, in its words.
    pub(crate) fn manage(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.enter);
        command
            .arg(format!("--pid={}", self.pid))
            .args(["--", MANAGE])
            .args(words)
            .arg(self.app.as_str());
        run(command).with_context(|| format!("{ENTER}: execute {}", self.enter))?
    }
}

/// Does `words` with the host's systemd, by the program of the image at `root`, which runs on the host then.
///
/// # Errors
/// Those of the program, in its words.
pub(crate) fn manage_on_host<'a>(
    root: &StageRoot,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let program = root.join(MANAGE);
    let mut command = Command::new(&program);
    command.args(words);
    run(command).with_context(|| format!("execute {}", program.display()))?
}

/// Runs `manage`, and says what it says.
///
/// # Errors
/// When it cannot be run; inside, its own error in its words.
fn run(mut command: Command) -> std::io::Result<Result<()>> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut told = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut told)?;
    }
    let status = child.wait()?;
    let told = String::from_utf8_lossy(&told);
    let told = told.trim_end();
    if !status.success() {
        let why = told.strip_prefix("manage: ").unwrap_or(told);
        return Ok(Err(anyhow!("{why}")));
    }
    if !told.is_empty() {
        eprintln!("{told}");
    }
    Ok(Ok(()))
}

/// A running pod that is only looked at.
pub(crate) struct RunningPod {
    /// The pod.
    pub(crate) dir: PodDir,
    /// The pid of its PID 1.
    pid: String,
    /// The pod's PID 1.
    init: OwnedFd,
}

/// The pod in the working directory, whose PID 1 the environment names.
pub(crate) fn running_pod() -> Result<RunningPod> {
    let dir = PodDir::new(".");
    let pid = variable(PID)?;
    let init = supervisor::pod_init(&pid).context(PID)?;
    check_pod(&dir, &pid).context(PID)?;
    Ok(RunningPod { dir, pid, init })
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name}: must be set, as stage0 does it"))
}

/// Whether the process is of the pod in the working directory: what the one sees as its root is the other's stage1.
fn check_pod(dir: &PodDir, pid: &str) -> Result<()> {
    let identity = |path: &Path| {
        let meta = path.metadata();
        let meta = meta.with_context(|| format!("look at {}", path.display()))?;
        anyhow::Ok((meta.dev(), meta.ino()))
    };
    let seen = identity(&Path::new("/proc").join(pid).join("root"))?;
    let own = identity(dir.stage_root().path())?;
    ensure!(
        seen == own,
        "{pid} is PID 1 of another pod than the one in the working directory"
    );
    Ok(())
}
