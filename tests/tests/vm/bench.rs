//! What the tests bring into their guests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tests::harness::{Skip, build_dir, stripped};
use tests::image::{Image, Packing, dir, file, unpacked};
use tests::vm::{Cgroups, Config, Guest, Report, Status, TestVm, missing};

const AGENT: &str = env!("CARGO_BIN_EXE_guest-agent");
const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// How the pods of these tests are run, up to what the app is told to do.
pub(crate) const RUN: &str = "/payload/stage0 run --volume=shared,kind=host,source=/shared \
    --mount=volume=shared,target=/shared example.com/app -- do";

/// Shows the pod's control group as the run entrypoint has recorded it, and the names of the processes that are in it.
const SUBCGROUP: &str = r#"
cd "/sys/fs/cgroup/$(cat /var/lib/stage0/pods/run/*/subcgroup)" || exit
pwd
cat $(find . -name cgroup.procs) | while read -r pid; do cat "/proc/$pid/comm"; done
"#;

/// A guest that pods are run on: with stage0, the stage1 image, and an image with the probe imported.
pub(crate) struct Bench {
    pub(crate) config: Config,
    cgroups: Cgroups,
    // The images, until they are on the guest's disk.
    scratch: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(guest: Guest) -> Result<Self> {
        let scratch = tempfile::tempdir().context("make a scratch folder")?;
        let config = with_pods(config(guest)?, scratch.path())?
            .text("subcgroup", SUBCGROUP)
            .step("cgroups", "stat -f -c %t /sys/fs/cgroup")
            .step("shared", "mkdir /shared");
        let bench = Self {
            config,
            cgroups: guest.cgroups,
            scratch,
        };
        bench.image("app", json!([]))
    }

    /// Brings an image `example.com/NAME` with the probe along, whose app asks for these isolators, and imports it.
    pub(crate) fn image(self, name: &str, isolators: Value) -> Result<Self> {
        let probe = std::fs::read(self.scratch.path().join("probe"))?;
        let aci = format!("{name}.aci");
        let image = self.scratch.path().join(&aci);
        Image::new(&format!("example.com/{name}"), &["/probe"])
            .app("isolators", isolators)
            .with([file("probe", 0o755, probe), dir("tmp/", 0o1777)])
            .aci(&image, Packing::Tar)?;
        let import = format!("/payload/stage0 image import /payload/{aci}");
        let config = self.config.file(&image, &aci);
        Ok(Self {
            config: config.step(&format!("import-{name}"), &import),
            ..self
        })
    }

    pub(crate) fn finish(self, steps: impl FnOnce(Config) -> Config) -> Result<Report> {
        let report = TestVm::new(steps(self.config))?.finish()?;
        let seen = report.expect("cgroups", &Status::Exited(0))?;
        // The number of cgroup2 file systems.
        let unified = seen.contains("63677270");
        assert_eq!(unified, self.cgroups == Cgroups::Unified, "{seen}");
        report.expect("import-app", &Status::Exited(0))?;
        Ok(report)
    }
}

/// Brings what a pod needs along: stage0, the stage1 image, the probe. Copies of them are made in the folder.
pub(crate) fn with_pods(config: Config, folder: &Path) -> Result<Config> {
    let [stage0, stage1] = built()?;
    Ok(config
        .file(&stage0, "stage0")
        .file(&plain(&stage1, folder)?, "stage1.aci")
        .file(&stripped(Path::new(PROBE), folder)?, "probe"))
}

/// What `scripts/build` has made, unless something is missing.
pub(crate) fn built() -> Result<[PathBuf; 2]> {
    let files = ["stage0", "stage1.aci"].map(|name| build_dir().join(name));
    match files.iter().find(|path| !path.exists()) {
        Some(absent) => Err(skip(format!(
            "{} is missing: run scripts/build",
            absent.display()
        ))),
        None => Ok(files),
    }
}

/// The stage1 image without its compression: to take that off takes a guest ten times as long as this machine.
fn plain(stage1: &Path, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("stage1.aci");
    std::fs::write(&copy, unpacked(stage1)?).context("unpack the stage1 image")?;
    Ok(copy)
}

/// A guest that is to be started, unless there is a reason not to.
pub(crate) fn config(guest: Guest) -> Result<Config> {
    match missing(guest) {
        Some(reason) => Err(skip(reason)),
        None => Ok(Config::new(guest, Path::new(AGENT))),
    }
}

/// Why a test is skipped; with STAGE1_REQUIRE_VM=1 in the environment, as scripts/test sets it, that is a failure.
fn skip(reason: String) -> anyhow::Error {
    let required = std::env::var_os("STAGE1_REQUIRE_VM").is_some_and(|value| value == "1");
    match required {
        true => anyhow!(reason),
        false => Skip(reason).into(),
    }
}
