//! The probe's report as a value: written inside the pod, read again by the harness.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What `see` is asked to look at besides what it always reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub(super) out: Option<PathBuf>,
    pub(super) looks: Vec<(String, PathBuf)>,
}

impl Request {
    pub(super) fn parse(words: &[&str]) -> Result<Self> {
        let mut request = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let verb = match word {
                "--" => break,
                _ => word
                    .strip_prefix("--")
                    .with_context(|| format!("unexpected {word:?}"))?,
            };
            let path = words
                .next()
                .with_context(|| format!("{word} needs a path"))?;
            match verb {
                "out" => request.out = Some(path.into()),
                "stat" | "read" | "list" | "write" => {
                    request.looks.push((verb.into(), path.into()));
                }
                _ => bail!("no such option: {word}"),
            }
        }
        Ok(request)
    }
}

/// All that the app sees of itself and its surroundings.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The whole command line.
    pub argv: Vec<String>,
    /// The environment in its order, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Process, parent, group and session ids.
    pub ids: BTreeMap<String, i32>,
    /// Real, effective, saved and file system uid.
    pub uids: Vec<u32>,
    /// The same of the gid.
    pub gids: Vec<u32>,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// Lines of /proc/self/status by name, for what is rarely asked.
    pub status: BTreeMap<String, String>,
    /// Securebits.
    pub securebits: u32,
    /// Open descriptors and what they are.
    pub fds: BTreeMap<i32, String>,
    /// Lines of /proc/self/mountinfo.
    pub mounts: Vec<String>,
    /// Lines of /proc/self/cgroup.
    pub cgroups: Vec<String>,
    /// Links of /proc/self/ns.
    pub namespaces: BTreeMap<String, String>,
    /// Host name.
    pub hostname: String,
    /// Soft and hard limits by name.
    pub limits: BTreeMap<String, (String, String)>,
    /// OOM score adjustment.
    pub oom_score_adj: i32,
    /// Priority, nice value, real-time priority and policy as in /proc/self/stat, and I/O priority, by name.
    pub scheduling: BTreeMap<String, i64>,
    /// Visible processes and their names.
    pub processes: BTreeMap<i32, String>,
    /// Terminals.
    pub terminal: Terminal,
    /// What was asked for, by `VERB PATH`.
    pub looks: BTreeMap<String, Outcome>,
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the sets' names say all")]
pub struct Capabilities {
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// What the app knows of terminals.
#[derive(Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// /dev/tty can be opened: there is a controlling terminal.
    pub controlling: bool,
    /// Which of descriptors 0, 1 and 2 are terminals.
    pub streams: [bool; 3],
}

/// A file's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// One letter as `ls` prints it: `-dlcbps`.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Where a symbolic link points.
    pub target: Option<PathBuf>,
}

/// What a look gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of `stat` (which does not follow a last symbolic link).
    Node(Node),
    /// Of `read`.
    Text(String),
    /// Of `list`, sorted.
    Names(Vec<String>),
    /// Of `write`: the file could be opened for writing.
    Writable,
    /// The error number instead.
    Error(i32),
}

impl Seen {
    /// Value of an environment variable; the last one if it is there twice, as most programs read it.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// Fails unless the other has the same environment, identity, working directory and confinement.
    pub fn expect_like(&self, other: &Self) {
        assert_eq!(self.env, other.env);
        assert_eq!(
            (&self.uids, &self.gids, &self.cwd),
            (&other.uids, &other.gids, &other.cwd)
        );
        for field in [
            "CapEff",
            "CapPrm",
            "CapBnd",
            "CapInh",
            "NoNewPrivs",
            "Seccomp_filters",
        ] {
            assert_eq!(self.status[field], other.status[field], "{field}");
        }
    }

    /// What `--VERB PATH` gave.
    pub fn look(&self, verb: &str, path: &str) -> Result<&Outcome> {
        self.looks
            .get(&format!("{verb} {path}"))
            .with_context(|| format!("the probe was not asked to {verb} {path}"))
    }

    /// A file's metadata.
    pub fn stat(&self, path: &str) -> Result<&Node> {
        match self.look("stat", path)? {
            Outcome::Node(node) => Ok(node),
            other => bail!("stat {path} in the app: {other:?}"),
        }
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> Result<&str> {
        match self.look("read", path)? {
            Outcome::Text(text) => Ok(text),
            other => bail!("read {path} in the app: {other:?}"),
        }
    }

    /// A directory's entries.
    pub fn names(&self, path: &str) -> Result<&[String]> {
        match self.look("list", path)? {
            Outcome::Names(names) => Ok(names),
            other => bail!("list {path} in the app: {other:?}"),
        }
    }

    /// Fields of the topmost mount at a path, in mountinfo's order up to the `-`, then type, source and super options.
    pub fn mount(&self, path: &str) -> Option<Vec<&str>> {
        let fields = self
            .mounts
            .iter()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        fields.rev().find(|fields| fields.get(4) == Some(&path))
    }
}
