//! A case: its files, laid out as stage0 leaves a pod directory, and planned as `init` does it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use common::appc::Uuid;
use common::caller::Caller;
use common::facts::HostFacts;
use common::flags;
use common::id_range::IdRange;
use common::load::Pod;
use common::net::Reached;
use common::options::{self, HostsMode, ResolvMode, RunOptions};
use common::passed::Passed;
use common::plan::{Existing, Inputs, PodPlan, plan};
use common::pod::PodDir;
use serde_json::Value;
use tempfile::TempDir;

use crate::golden;

const UUID: &str = "0b29556f-0fe4-4254-a970-50f0b77362b4";
/// Stands for the directory of the case.
const DIR: &str = "@DIR@";
/// The longest argument that the kernel takes (`MAX_ARG_STRLEN` and its NUL, execve(2)).
const LONG: usize = 128 * 1024 - 1;
/// The folder of the host when none is named.
const HOST: &str = "hybrid";

pub(crate) struct Case {
    pub(crate) name: String,
    golden: PathBuf,
    dir: TempDir,
}

/// The static files of the stage1 image.
pub(crate) fn image_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs")
}

impl Case {
    /// Lays a case out in a new directory; `None`, with a word why, when it needs root and there is none.
    pub(crate) fn lay_out(golden: &Path) -> Option<Self> {
        let name = golden.file_name().unwrap().to_str().unwrap().to_owned();
        let needs_root = golden.join("needs-root");
        if needs_root.exists() && !rustix::process::geteuid().is_root() {
            let reason = fs::read_to_string(needs_root).unwrap();
            eprintln!("skipped {name}: {}", reason.trim());
            return None;
        }
        let dir = TempDir::new().unwrap();
        let case = Case {
            name,
            golden: golden.to_owned(),
            dir,
        };
        let pod = PodDir::new(case.pod_dir());
        let root = pod.stage_root();
        copy(&image_root().join("etc"), &root.join("etc"));
        let manifest = case.golden_text("pod.json").unwrap();
        for app in app_names(&manifest) {
            copy(
                &golden::dir().join("plan-defaults/root"),
                &root.app_root(&app),
            );
            let own = golden.join("images").join(format!("{app}.json"));
            let image = if own.exists() {
                own
            } else {
                golden::dir().join("plan-defaults/image.json")
            };
            fs::create_dir_all(pod.app_info(&app)).unwrap();
            fs::copy(image, pod.app_image_manifest(&app)).unwrap();
        }
        copy(&golden.join("files"), case.dir.path());
        fs::write(pod.manifest(), case.fill_in(&manifest)).unwrap();
        for path in case.golden_text("directories").unwrap_or_default().lines() {
            fs::create_dir_all(case.dir.path().join(path)).unwrap();
        }
        for line in case.golden_text("owners").unwrap_or_default().lines() {
            let (owner, path) = line.split_once(' ').unwrap();
            let (uid, gid) = owner.split_once(':').unwrap();
            chown(
                case.dir.path().join(path),
                uid.parse().ok(),
                gid.parse().ok(),
            )
            .unwrap();
        }
        Some(case)
    }

    pub(crate) fn pod_dir(&self) -> PathBuf {
        self.dir.path().join("pod")
    }

    fn golden_text(&self, name: &str) -> Option<String> {
        let path = self.golden.join(name);
        path.exists().then(|| fs::read_to_string(path).unwrap())
    }

    /// Replaces what stands for something too long for a manifest in a file, or unknown.
    fn fill_in(&self, manifest: &str) -> String {
        manifest
            .replace(DIR, self.dir.path().to_str().unwrap())
            .replace("@IMAGE@", &format!("sha512-{}", "0".repeat(128)))
            .replace("@LONG@", &"x".repeat(LONG))
    }

    /// What came out, without the name of the directory, which is another each time.
    pub(crate) fn without_dir(&self, content: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(content) {
            Ok(text) => text
                .replace(self.dir.path().to_str().unwrap(), DIR)
                .into_bytes(),
            Err(_) => content.to_owned(),
        }
    }

    /// What the networks have come to, if the case has any.
    fn reached(&self) -> Result<Reached> {
        let text = self.golden_text("reached.json");
        Ok(text.map_or(Ok(Reached::default()), |text| serde_json::from_str(&text))?)
    }

    pub(crate) fn load(&self, users: Option<IdRange>) -> Result<Pod> {
        Pod::load(&PodDir::new(self.pod_dir()), users)
    }

    /// What `init` does from its command line to the plan.
    pub(crate) fn plan(&self) -> Result<PodPlan> {
        let args = self.golden_text("options").unwrap_or_default();
        let flags = flags::parse(&options::FLAGS, args.lines().map(OsString::from))?;
        ensure!(flags.rest.is_empty(), "not an option: {:?}", flags.rest);
        let mut options = RunOptions::from_flags(&flags)?;
        let dir = PodDir::new(self.pod_dir());
        let pod = self.load(options.private_users)?;
        options.mutable |= pod.mutable;
        let host = self.golden_text("host");
        let host = host.as_deref().map_or(HOST, str::trim);
        let host = golden::dir().join("hosts").join(host).join("root");
        let terminal = self.golden_text("terminal");
        let mut facts = HostFacts::read(&host)?;
        facts.device_programs = self.golden_text("no-device-programs").is_none();
        facts.caller = Caller {
            notify_socket: self
                .golden_text("notify-socket")
                .map(|path| path.trim().to_owned()),
            sockets: self
                .golden_text("passed")
                .map_or(Ok(Vec::new()), |text| passed(&text))?,
        };
        let inputs = Inputs {
            uuid: &UUID.parse::<Uuid>()?,
            pod: &pod,
            options: &options,
            facts: &facts,
            existing: &existing(&dir, &options, &host)?,
            reached: &self.reached()?,
            term: terminal.as_deref().map(str::trim),
            storage: Some("8:0"),
        };
        plan(&dir, &inputs)
    }
}

/// Sockets that the caller has passed, from lines `NAME PROTOCOL ADDRESS`.
fn passed(text: &str) -> Result<Vec<Passed>> {
    let socket = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let [name, protocol, address] = words[..] else {
            bail!("passed: {line}");
        };
        Ok(Passed {
            name: name.to_owned(),
            protocol: serde_json::from_value(protocol.into())?,
            address: address.parse()?,
        })
    };
    text.lines().map(socket).collect()
}

fn existing(dir: &PodDir, options: &RunOptions, host: &Path) -> Result<Existing> {
    let root = dir.stage_root();
    let text =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let of_host = |wanted: bool, path: &str| wanted.then(|| fs::read(host.join(path))).transpose();
    Ok(Existing {
        passwd: text(root.passwd())?,
        group: text(root.group())?,
        hosts_fallback: text(root.hosts_fallback())?,
        default_filter: Vec::new(),
        host_resolv_conf: of_host(options.resolv == ResolvMode::Host, "etc/resolv.conf")?,
        host_hosts: of_host(options.hosts == HostsMode::Host, "etc/hosts")?,
        stage0_hosts: fs::read_to_string(root.hosts()).ok(),
        ..Existing::default()
    })
}

/// The names of the apps in a manifest that may be wrong in every other way.
fn app_names(manifest: &str) -> Vec<String> {
    let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
    let apps = manifest["apps"].as_array().cloned().unwrap_or_default();
    let names = apps.iter().filter_map(|app| app["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Copies a tree; what is not there is no tree.
fn copy(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    fs::create_dir_all(to).unwrap();
    for entry in entries.map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_symlink() {
            symlink(fs::read_link(from).unwrap(), to).unwrap();
        } else {
            // A checkout has the modes of whose umask it was.
            let executable = entry.metadata().unwrap().mode() & 0o100 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            fs::copy(from, &to).unwrap();
            fs::set_permissions(to, Permissions::from_mode(mode)).unwrap();
        }
    }
}
