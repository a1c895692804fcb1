//! The runtimes that are compared, and what each needs around the part that is timed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};

use crate::Options;
use crate::profile::{self, Profile};
use crate::report::{FULL, OURS};

/// Where a run of the benchmark takes place. All that the runtimes leave is below one directory, gone with this value.
pub(crate) struct Setting {
    scratch: tempfile::TempDir,
    rootfs: PathBuf,
    stage0: PathBuf,
    stage1: PathBuf,
    archive: PathBuf,
}

/// What podman must be told to run on a machine without systemd and with low limits.
const CONTAINERS_CONF: &str = r#"[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"#;

impl Setting {
    pub(crate) fn make(options: &Options) -> Result<Self> {
        let absolute = |path: &Path| {
            fs::canonicalize(path).with_context(|| format!("find {}", path.display()))
        };
        let scratch = tempfile::Builder::new()
            .prefix("stage1-bench-")
            .tempdir()
            .context("make a scratch directory")?;
        let setting = Self {
            rootfs: absolute(&options.rootfs)?,
            stage0: absolute(&options.stage0)?,
            stage1: absolute(&options.stage1)?,
            archive: absolute(&options.archive)?,
            scratch,
        };
        for name in ["out", "crun", "podman"] {
            let path = setting.path(name);
            fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let conf = setting.path("containers.conf");
        fs::write(&conf, CONTAINERS_CONF).with_context(|| format!("write {}", conf.display()))?;
        Ok(setting)
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The root file system that all runtimes use.
    pub(crate) fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The same as an OCI archive.
    pub(crate) fn archive(&self) -> &Path {
        &self.archive
    }

    /// Where the app writes its time.
    pub(crate) fn stamp(&self) -> PathBuf {
        self.path("out/stamp")
    }

    /// The file that a runtime's complaints go to.
    pub(crate) fn log(&self) -> Result<File> {
        let path = self.path("log");
        File::create(&path).with_context(|| format!("make {}", path.display()))
    }

    /// What it complained about.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Setting {
    /// podman keeps its store mounted, and a cgroup for its monitors and one for each pod in every hierarchy. Removal fails
    /// where somebody uses it, or has none.
    fn drop(&mut self) {
        let _ = unmount(self.path("podman/root/overlay"), UnmountFlags::DETACH);
        let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else {
            return;
        };
        for hierarchy in hierarchies.flatten() {
            let parent = hierarchy.path().join("libpod_parent");
            for of_pod in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(of_pod.path());
            }
            let _ = fs::remove_dir(parent);
        }
    }
}

/// A runtime, ready to run the app again and again.
pub(crate) enum Runtime {
    /// Our pod of an image in our store, prepared beforehand, in a network (`--net`).
    Stage0 { image: String, net: Net },
    /// The same with all that a pod can ask for.
    Full { manifest: PathBuf },
    /// A bundle on the root file system.
    Crun,
    /// The root file system as it is.
    Podman(Net),
}

/// The network of a pod or container.
#[derive(Clone, Copy)]
pub(crate) enum Net {
    /// Loopback alone.
    None,
    /// The default one of a runtime that makes one.
    Default,
}

const CONTAINER: &str = "stage1-bench";

impl Runtime {
    pub(crate) fn all(setting: &Setting, profile: Profile) -> Result<Vec<Self>> {
        let image = import(setting)?;
        write_bundle(setting, &["/bench", "stamp", "/out/stamp"], Value::Null)?;
        configure_podman(setting)?;
        let full = match profile {
            Profile::Bare => None,
            Profile::Full => Some(write_manifest(setting, &image)?),
        };
        let full = full.map(|manifest| Self::Full { manifest });
        let net = Net::None;
        let others = [Self::Stage0 { image, net }, Self::Crun, Self::Podman(net)];
        Ok(others.into_iter().chain(full).collect())
    }

    /// Our pods with and without a network of plugins, and podman's container with one.
    pub(crate) fn with_networks(setting: &Setting) -> Result<[Self; 3]> {
        let image = import(setting)?;
        configure_podman(setting)?;
        let ours = |net| Self::Stage0 {
            image: image.clone(),
            net,
        };
        Ok([
            ours(Net::None),
            ours(Net::Default),
            Self::Podman(Net::Default),
        ])
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Stage0 { .. } => OURS,
            Self::Full { .. } => FULL,
            Self::Crun => "crun",
            Self::Podman(_) => "podman",
        }
    }

    /// What may be done ahead of time. Gives what the run is called by.
    pub(crate) fn prepare(&self, setting: &Setting) -> Result<String> {
        match self {
            Self::Stage0 { image, .. } => output(
                stage0(setting)
                    .arg("prepare")
                    .arg(format!(
                        "--volume=out,kind=host,source={}",
                        setting.path("out").display()
                    ))
                    .args(["--mount=volume=out,target=/out", image]),
            ),
            Self::Full { manifest } => output(
                stage0(setting)
                    .args(["prepare", "--pod-manifest"])
                    .arg(manifest),
            ),
            Self::Crun | Self::Podman(_) => Ok(CONTAINER.to_owned()),
        }
    }

    /// What is timed.
    pub(crate) fn command(&self, setting: &Setting, called: &str) -> Command {
        match self {
            Self::Stage0 { net, .. } => run_prepared(setting, *net, called),
            Self::Full { .. } => run_prepared(setting, Net::None, called),
            Self::Crun => {
                let mut command = crun(setting);
                command
                    .args(["run", "--bundle"])
                    .arg(setting.path("crun"))
                    .arg(called);
                command
            }
            Self::Podman(net) => {
                let mut command = podman(setting);
                command.arg("run");
                // Without the option it is podman's default.
                command.args(matches!(net, Net::None).then_some("--network=none"));
                command
                    .args(["--name", called, "--volume"])
                    .arg(format!("{}:/out", setting.path("out").display()))
                    .arg("--rootfs")
                    .arg(&setting.rootfs)
                    .args(["/bench", "stamp", "/out/stamp"]);
                command
            }
        }
    }

    /// Takes away what the run has left, also when it failed.
    pub(crate) fn tidy(&self, setting: &Setting, called: &str) -> Result<()> {
        match self {
            Self::Stage0 { .. } | Self::Full { .. } => {
                output(stage0(setting).args(["rm", called])).map(drop)
            }
            // crun run takes its own container away.
            Self::Crun => Ok(()),
            Self::Podman(_) => output(podman(setting).args(["rm", "--force", called])).map(drop),
        }
    }
}

fn run_prepared(setting: &Setting, net: Net, called: &str) -> Command {
    let mut command = stage0(setting);
    let net = match net {
        Net::None => "--net=none",
        Net::Default => "--net=default",
    };
    command.args(["run-prepared", net, called]);
    command
}

/// Imports the image into our store; gives its ID.
fn import(setting: &Setting) -> Result<String> {
    output(
        stage0(setting)
            .args(["image", "import"])
            .arg(&setting.archive),
    )
}

fn configure_podman(setting: &Setting) -> Result<()> {
    let conf = setting.path("containers.conf");
    fs::write(&conf, CONTAINERS_CONF).with_context(|| format!("write {}", conf.display()))
}

/// A command of ours.
pub(crate) fn stage0(setting: &Setting) -> Command {
    let mut command = Command::new(&setting.stage0);
    command.arg("--dir").arg(setting.path("stage0"));
    command.arg("--stage1").arg(&setting.stage1);
    command
}

pub(crate) fn crun(setting: &Setting) -> Command {
    let mut command = Command::new("crun");
    command.arg("--cgroup-manager=cgroupfs");
    command.arg("--root").arg(setting.path("crun/state"));
    command
}

/// A command of podman's.
pub(crate) fn podman(setting: &Setting) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", setting.path("containers.conf"));
    command.arg("--root").arg(setting.path("podman/root"));
    command.arg("--runroot").arg(setting.path("podman/run"));
    command
}

/// crun's own default bundle, with our root, our program, these limits and the volume.
pub(crate) fn write_bundle(setting: &Setting, args: &[&str], resources: Value) -> Result<()> {
    let bundle = setting.path("crun");
    let path = bundle.join("config.json");
    // crun replaces none; there is none the first time.
    let _ = fs::remove_file(&path);
    output(crun(setting).arg("spec").arg("--bundle").arg(&bundle))?;
    let text =
        fs::read_to_string(&path).with_context(|| format!("read crun's {}", path.display()))?;
    let mut config: Value =
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(args);
    if !resources.is_null() {
        config["linux"]["resources"] = resources;
    }
    config["root"] = json!({ "path": setting.rootfs, "readonly": false });
    config["mounts"]
        .as_array_mut()
        .context("find the mounts in crun's config.json")?
        .push(json!({
            "destination": "/out",
            "type": "bind",
            "source": setting.path("out"),
            "options": ["rbind", "rw"],
        }));
    fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))
}

/// The pod with all that it can ask for, of what confines it and its app.
fn write_manifest(setting: &Setting, image: &str) -> Result<PathBuf> {
    let manifest = setting.path("manifest.json");
    fs::write(
        &manifest,
        profile::full(image, &setting.path("out")).to_string(),
    )
    .with_context(|| format!("write {}", manifest.display()))?;
    Ok(manifest)
}

/// Runs a command that must succeed, and gives its trimmed stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
