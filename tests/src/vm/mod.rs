//! Virtual machines: a host of a chosen kind boots under QEMU, an agent in it runs the steps that a test lists, and the
//! results come back over a serial port.
//!
//! A guest has two disks, and writes to neither of them in earnest: its root, which `scripts/vm` has made, and the
//! *payload*, which the fixture makes of the files that the test brings (mounted on `/payload`, where the steps are run).
//! It has no network. Its console is kept, and shown when anything fails: a result that is missing, a kernel panic, a
//! guest that does not end in time.

pub mod agent;
mod guest;
mod machine;
mod protocol;
mod report;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use guest::{Cgroups, Guest, Init};
pub use machine::{TestVm, missing};
pub use protocol::Status;
pub use report::Report;
pub use suite::{Ended, Outcomes};

use machine::made;
use protocol::{Step, Task};

/// How long a guest may take from its start to its end, and how long one step. Only what hangs gets here: a guest
/// boots in seconds, but the machine may be a slow one with other things to do.
const GUEST_LIMIT: Duration = Duration::from_secs(600);
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What a guest is started with.
#[derive(Debug, Clone)]
pub struct Config {
    guest: Guest,
    /// Whose image is its root.
    image: Init,
    files: Vec<(PathBuf, Content)>,
    steps: Vec<Step>,
    kernel_words: Vec<String>,
    limit: Duration,
}

#[derive(Debug, Clone)]
enum Content {
    Copy(PathBuf),
    Text(String),
}

impl Config {
    /// A guest whose steps are run by this agent program (static: the guest may have no libraries).
    pub fn new(guest: Guest, agent: &Path) -> Self {
        Self {
            guest,
            image: guest.init,
            files: Vec::new(),
            steps: Vec::new(),
            kernel_words: Vec::new(),
            limit: GUEST_LIMIT,
        }
        .file(agent, "guest-agent")
    }

    /// Gives a guest with busybox the root of those with systemd, for steps that use more programs than busybox has. Its
    /// first process is busybox as ever.
    pub fn with_debians_programs(mut self) -> Self {
        self.image = Init::Systemd;
        self.kernel_word("stage1.init=busybox")
    }

    /// Brings a file along as `/payload/NAME`.
    pub fn file(mut self, source: &Path, name: &str) -> Self {
        self.files
            .push((name.into(), Content::Copy(source.to_owned())));
        self
    }

    /// Brings a text along as `/payload/NAME`.
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), Content::Text(text.into())));
        self
    }

    /// Brings the compiled policy of a security module along (`apparmor` or `selinux`) as `/payload/policy`, and has the
    /// kernel use that module.
    pub fn security(mut self, module: &str) -> Self {
        self.kernel_words.push(format!("security={module}"));
        // SELinux only; others pass it over.
        self.kernel_words.push("enforcing=1".into());
        self.file(&made().join("policies").join(module), "policy")
    }

    /// Adds a word to the kernel's command line.
    pub fn kernel_word(mut self, word: &str) -> Self {
        self.kernel_words.push(word.into());
        self
    }

    /// Adds a step: a command that is run after the steps before it, however they ended. White space separates its
    /// words; what needs more is a script, brought along by [`Config::text`].
    pub fn step(mut self, name: &str, command: &str) -> Self {
        self.steps.push(Step::Run(task(name, command)));
        self
    }

    /// Adds a step that may take longer than others.
    pub fn long_step(mut self, name: &str, command: &str, limit: Duration) -> Self {
        let task = Task {
            limit,
            ..task(name, command)
        };
        self.steps.push(Step::Run(task));
        self
    }

    /// Adds a step that goes on beside the later ones.
    pub fn start(mut self, name: &str, command: &str) -> Self {
        self.steps.push(Step::Start(task(name, command)));
        self
    }

    /// Waits for the end of a step that was started.
    pub fn join(mut self, name: &str) -> Self {
        self.steps.push(Step::Join(name.into()));
        self
    }

    /// Sets how long the guest may take in all.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lays the payload out in a folder.
    fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        for (name, content) in &self.files {
            let path = folder.join(name);
            match content {
                Content::Copy(source) => fs::copy(source, &path)
                    .map(drop)
                    .with_context(|| format!("copy {}", source.display()))?,
                Content::Text(text) => {
                    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
                }
            }
        }
        let mut names = BTreeSet::new();
        for Task { name, .. } in self.steps.iter().filter_map(Step::task) {
            let word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(word, "step {name:?}: the name must be one word");
            ensure!(names.insert(name), "step {name}: there are two");
        }
        let steps = serde_json::to_vec(&self.steps).context("write the steps")?;
        fs::write(folder.join(protocol::STEPS), steps).context("write the steps")
    }
}

fn task(name: &str, command: &str) -> Task {
    Task {
        name: name.into(),
        argv: command.split_whitespace().map(str::to_owned).collect(),
        limit: STEP_LIMIT,
    }
}
