//! Calls of plugins: a program, its configuration on standard input, parameters in the environment, its answer on standard
//! output (SPEC.md of CNI, "Execution Protocol").

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::env::DEFAULT_PATH;
use common::pod::PodDir;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Map, Value};

use super::lock::Lock;
use super::state::{Attachment, State};
use crate::supervisor::wait;

/// How long an answer may be, in bytes.
const LONGEST: u64 = 1 << 20;

/// How much is shown of what a plugin has said.
const SHOWN: usize = 400;

/// What a plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Version,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
            Verb::Version => "VERSION",
        }
    }

    /// Whether it is about one pod rather than the network.
    fn of_pod(self) -> bool {
        matches!(self, Verb::Add | Verb::Check | Verb::Del)
    }
}

/// Calls the plugins of one pod.
pub(super) struct Caller<'a> {
    dir: &'a PodDir,
    container: &'a str,
    namespace: &'a Path,
    folders: &'a [PathBuf],
    timeout: Duration,
}

impl<'a> Caller<'a> {
    /// Calls the plugins of the pod in `dir`.
    pub(super) fn new(dir: &'a PodDir, state: &'a State) -> Self {
        Caller {
            dir,
            container: &state.container,
            namespace: &state.namespace,
            folders: &state.folders,
            timeout: Duration::from_secs(state.timeout),
        }
    }

    /// Calls a plugin and gives its answer.
    ///
    /// # Errors
    /// When there is no such program, it does not end in time, or it fails: with what it says.
    pub(super) fn call(
        &self,
        verb: Verb,
        attachment: &Attachment,
        plugin: &str,
        config: &Map<String, Value>,
    ) -> Result<Vec<u8>> {
        let program = find(self.folders, plugin)?;
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"CNI_") || name == "RKT_LOCK_FD" {
                command.env_remove(name);
            }
        }
        if std::env::var_os("PATH").is_none() {
            command.env("PATH", DEFAULT_PATH);
        }
        command
            .env("CNI_COMMAND", verb.as_str())
            .env("CNI_PATH", std::env::join_paths(self.folders)?);
        if verb.of_pod() {
            command
                .env("CNI_CONTAINERID", attachment.container(self.container))
                .env("CNI_NETNS", self.namespace)
                .env("CNI_IFNAME", &attachment.interface);
            if !attachment.args.is_empty() {
                command.env("CNI_ARGS", &attachment.args);
            }
        }
        let config = serde_json::to_vec(config)?;
        let call = || self.run(command, &config);
        let (answer, said, status) =
            call().with_context(|| format!("plugin {plugin}: {}", verb.as_str()))?;
        if !status.success() {
            bail!(
                "plugin {plugin}: {}: {}",
                verb.as_str(),
                failure(&answer, &said, status)
            );
        }
        if !said.is_empty() {
            eprintln!("plugin {plugin}: {}", shown(&said));
        }
        Ok(answer)
    }

    /// Runs a program; gives what it has written to standard output and error. These are files in memory, so that nobody
    /// needs to read while it runs, and what it leaves running cannot keep us waiting.
    fn run(&self, mut command: Command, input: &[u8]) -> Result<(Vec<u8>, Vec<u8>, ExitStatus)> {
        let mut stdin = File::from(memfd_create("config", MemfdFlags::CLOEXEC)?);
        stdin.write_all(input)?;
        stdin.seek(SeekFrom::Start(0))?;
        let (stdout, stderr) = (bounded()?, bounded()?);
        command
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // With the plugins that it calls itself it can be ended together.
            .process_group(0);
        let lock = Lock::take(self.dir, self.timeout)?;
        let child = lock.sharing(|| command.spawn()).context("execute");
        let status = child.and_then(|mut child| self.end(&mut child));
        lock.release()?;
        Ok((written(stdout)?, written(stderr)?, status?))
    }

    fn end(&self, child: &mut Child) -> Result<ExitStatus> {
        let pid = Pid::from_child(child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        if !wait(&pidfd, Some(self.timeout))? {
            // Not waited for yet, so the id is still its own.
            kill_process_group(pid, Signal::KILL)?;
            child.wait()?;
            bail!("has not ended within {} s", self.timeout.as_secs());
        }
        Ok(child.wait()?)
    }
}

/// A file in memory that holds so much and no more.
fn bounded() -> Result<File> {
    let fd = memfd_create("output", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, LONGEST)?;
    fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(File::from(fd))
}

/// What was written: neither JSON nor text has a NUL.
fn written(mut file: File) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut content = Vec::new();
    let mut part = [0; 4096];
    loop {
        let len = file.read(&mut part)?;
        let end = part[..len].iter().position(|byte| *byte == 0);
        content.extend_from_slice(&part[..end.unwrap_or(len)]);
        if end.is_some() || len == 0 {
            return Ok(content);
        }
    }
}

/// Where a plugin's program is.
pub(super) fn find(folders: &[PathBuf], plugin: &str) -> Result<PathBuf> {
    let executable = |path: &PathBuf| {
        let metadata = path.metadata();
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut paths = folders.iter().map(|folder| folder.join(plugin));
    if let Some(path) = paths.find(executable) {
        return Ok(path);
    }
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    bail!(
        "plugin {plugin} is in none of {}: install Debian's containernetworking-plugins, or use a stage1 image made with image-build --with-cni",
        folders.join(", ")
    )
}

/// Why a plugin has failed, by its own words: the error that the protocol has, else whatever it has written.
fn failure(answer: &[u8], said: &[u8], status: ExitStatus) -> String {
    let error: Map<String, Value> = serde_json::from_slice(answer).unwrap_or_default();
    let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut parts: Vec<String> = ["msg", "details"]
        .map(|field| shown(text(field).as_bytes()))
        .into();
    if error.is_empty() {
        parts.push(shown(answer));
    }
    parts.push(shown(said));
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        parts.push(status.to_string());
    }
    let mut why = parts.join(": ");
    if why.contains("iptables") && why.contains("not found") {
        why.push_str(": install iptables");
    }
    why
}

/// The end of a text, on one line.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("; ");
    let skipped = text.chars().count().saturating_sub(SHOWN);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn status(code: i32) -> ExitStatus {
        std::os::unix::process::ExitStatusExt::from_raw(code << 8)
    }

    #[test]
    fn failures_say_why() {
        let error = br#"{"code":7,"msg":"no such bridge","details":"cni0"}"#;
        assert_eq!(failure(error, b"", status(1)), "no such bridge: cni0");
        assert_eq!(failure(b"oops\n", b"a\n\nb\n", status(1)), "oops: a; b");
        assert_eq!(failure(b"", b"", status(3)), "exit status: 3");
        let missing = br#"{"msg":"exec: \"iptables\": executable file not found in $PATH"}"#;
        assert!(failure(missing, b"", status(1)).ends_with("$PATH: install iptables"));
    }

    #[test]
    fn programs_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let folders: Vec<_> = ["a", "b"].map(|name| dir.path().join(name)).into();
        for (folder, mode) in folders.iter().zip([0o644, 0o755]) {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("x"), "").unwrap();
            fs::set_permissions(folder.join("x"), fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(find(&folders, "x").unwrap(), folders[1].join("x"));
        let error = find(&folders, "y").unwrap_err().to_string();
        let start = format!("plugin y is in none of {}", folders[0].display());
        assert!(
            error.starts_with(&start) && error.contains("containernetworking-plugins"),
            "{error}"
        );
    }
}
