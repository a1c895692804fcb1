//! A second stage0, for the run of one pod at a time. It is written from the contract alone and shares no code with
//! `stage0/` or `common/`: it stands for the other stage0s of the world, so that ours can't hide a private agreement
//! with our stage1.

mod apps;
mod call;
mod check;
mod pod;
mod spec;
mod tree;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};

pub use apps::{Propagation, in_mounts};
pub use call::{Call, Run};
pub use pod::{Pod, State};
pub use spec::{AppSpec, PodSpec};
pub use tree::Tree;

use crate::harness;
use crate::leftovers::Marks;

/// A data directory with pods; see [`with`].
pub struct Driver {
    dir: tempfile::TempDir,
    pods: RefCell<Vec<Rc<Pod>>>,
}

/// Runs a test with a driver; afterwards each pod is collected by its own gc entrypoint, and what is left then is a
/// failure.
pub fn with(test: impl FnOnce(&Driver) -> Result<()>) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("driver-")
        .tempdir_in(harness::scratch())
        .context("scratch directory")?;
    let driver = Driver {
        dir,
        pods: RefCell::default(),
    };
    for state in [
        "embryo",
        "prepare",
        "prepared",
        "run",
        "exited-garbage",
        "garbage",
    ] {
        std::fs::create_dir_all(driver.data().join("pods").join(state))
            .context("make the data directory")?;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&driver)));
    let closed = driver.close();
    match outcome {
        Ok(result) => result.and(closed),
        Err(panic) => resume_unwind(panic),
    }
}

impl Driver {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path of the test's own, outside the data directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lays a pod out in `prepare/`, as a stage0 does before it runs it.
    pub fn pod(&self, spec: PodSpec) -> Result<Rc<Pod>> {
        let pod = Rc::new(pod::lay_out(&self.data(), spec)?);
        harness::note_pods([pod.uuid.clone()]);
        self.pods.borrow_mut().push(pod.clone());
        Ok(pod)
    }

    /// Lays a pod out, moves it to `run/` and mounts its overlays.
    pub fn pod_in_run(&self, spec: PodSpec) -> Result<Rc<Pod>> {
        let pod = self.pod(spec)?;
        pod.become_state(State::Prepared)?;
        pod.become_state(State::Run)?;
        pod.mount()?;
        Ok(pod)
    }

    fn close(self) -> Result<()> {
        let pods = self.pods.take();
        let mut result = Ok(());
        for pod in &pods {
            let collected = pod
                .collect()
                .with_context(|| format!("collect pod {}", pod.uuid));
            result = result.and(collected);
        }
        let marks = Marks::new(pods.iter().map(|pod| pod.uuid.as_str()), &[self.dir.path()]);
        let left = marks.found();
        marks.clear();
        result?;
        ensure!(
            left.is_empty(),
            "left behind after gc:\n{}",
            left.join("\n")
        );
        self.dir.close().context("remove the test's directory")
    }
}
