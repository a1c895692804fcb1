//! The entrypoints of a stage1: which there are, and how they are called.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use common::annotation::entrypoint;
use common::appc::{self, ImageManifest, Uuid};
use common::pod::PodDir;

/// A stage1 as its manifest describes it.
#[derive(Debug)]
pub struct Stage1(ImageManifest);

impl Stage1 {
    /// Reads the manifest of the pod's stage1.
    pub fn of(pod: &PodDir) -> Result<Self> {
        let file = pod.stage1_manifest();
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let manifest =
            ImageManifest::parse(&bytes).with_context(|| format!("read {}", file.display()))?;
        Ok(Self(manifest))
    }

    /// The version of the contract that it speaks.
    pub fn interface_version(&self) -> Result<u32> {
        match appc::annotation(&self.0.annotations, entrypoint::INTERFACE_VERSION) {
            // The first version had no annotation.
            None => Ok(1),
            Some(version) => version
                .parse()
                .with_context(|| format!("stage1 {}: interface version {version:?}", self.0.name)),
        }
    }

    /// How to call an entrypoint for a pod whose directory has the absolute path `pod`.
    pub fn command(&self, pod: &PodDir, annotation: &str) -> Result<Command> {
        let path = self.path(annotation)?;
        // As the contract has it: relative to the pod directory, which is the working directory.
        let shown = PodDir::new("").stage_root().path().join(&path);
        let mut command = Command::new(pod.path().join(&shown));
        command.arg0(shown).current_dir(pod.path());
        Ok(command)
    }

    /// Calls an entrypoint for the pod `uuid`, with these options, and waits for its end.
    pub fn call(
        &self,
        pod: &PodDir,
        annotation: &str,
        options: &[&str],
        uuid: &Uuid,
    ) -> Result<()> {
        let mut command = self.command(pod, annotation)?;
        command.args(options).arg(uuid.as_str());
        let status = command
            .status()
            .with_context(|| format!("execute {}", Path::new(command.get_program()).display()))?;
        if !status.success() {
            let name = annotation.rsplit('/').next().unwrap_or(annotation);
            bail!("{name} entrypoint of its stage1: {status}");
        }
        Ok(())
    }

    /// An entrypoint's path in the stage1 root.
    fn path(&self, annotation: &str) -> Result<PathBuf> {
        let name = &self.0.name;
        let Some(value) = appc::annotation(&self.0.annotations, annotation) else {
            bail!("stage1 {name}: its manifest has no annotation {annotation}");
        };
        let path = Path::new(value);
        let path = path.strip_prefix("/").unwrap_or(path);
        let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            bail!("stage1 {name}: annotation {annotation}: {value:?} is not a path in its root");
        }
        Ok(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage1(annotations: &str) -> Stage1 {
        let dir = tempfile::tempdir().unwrap();
        let pod = PodDir::new(dir.path());
        fs::create_dir(dir.path().join("stage1")).unwrap();
        let json = format!(
            r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"test/stage1","annotations":[{annotations}]}}"#
        );
        fs::write(pod.stage1_manifest(), json).unwrap();
        Stage1::of(&pod).unwrap()
    }

    fn run(value: &str) -> String {
        format!(r#"{{"name":"coreos.com/rkt/stage1/run","value":"{value}"}}"#)
    }

    #[test]
    fn calls_are_relative_to_the_pod() {
        for value in ["/init", "init"] {
            let command = stage1(&run(value))
                .command(&PodDir::new("/data/pods/run/u"), entrypoint::RUN)
                .unwrap();
            assert_eq!(command.get_program(), "/data/pods/run/u/stage1/rootfs/init");
            assert_eq!(
                command.get_current_dir(),
                Some(Path::new("/data/pods/run/u"))
            );
        }
    }

    #[test]
    fn bad_annotations_are_named() {
        let pod = PodDir::new("/pod");
        let error = |annotations: &str| {
            let stage1 = stage1(annotations);
            stage1
                .command(&pod, entrypoint::RUN)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(""),
            "stage1 test/stage1: its manifest has no annotation coreos.com/rkt/stage1/run"
        );
        for value in ["", "/", "../init", "/a/../../b", "./init"] {
            assert_eq!(
                error(&run(value)),
                format!(
                    "stage1 test/stage1: annotation coreos.com/rkt/stage1/run: {value:?} is not a path in its root"
                )
            );
        }
    }

    #[test]
    fn interface_versions() {
        let version = |value: &str| {
            let name = "coreos.com/rkt/stage1/interface-version";
            stage1(&format!(r#"{{"name":"{name}","value":"{value}"}}"#)).interface_version()
        };
        assert_eq!(stage1("").interface_version().unwrap(), 1);
        assert_eq!(version("6").unwrap(), 6);
        assert_eq!(
            version("six").unwrap_err().to_string(),
            "stage1 test/stage1: interface version \"six\""
        );
    }
}
