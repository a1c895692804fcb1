//! What a pod is made of, as values: a pure function of the pod, the options and the host's facts.

mod added;
mod app;
mod files;
mod nspawn;
mod pod;
mod resources;
mod show;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use caps::{Capability, CapsHashSet};

use crate::appc::Uuid;
use crate::facts::{HostFacts, PodCgroup};
use crate::isolate::resource::Resources;
use crate::isolate::{capability, seccomp};
use crate::listen::{self, Sockets};
use crate::load::{Pod, PodApp};
use crate::net::Reached;
use crate::options::RunOptions;
use crate::pod::{PodDir, StageRoot, machine_name};
use crate::policy::keys::EXIT_POLICY;
use crate::status::{IsolatorReport, Outcome};
use crate::volume::{PodVolume, Source, Volumes};

pub use added::{AddedApp, plan_added};
pub use nspawn::{LIBRARIES, LOADER};

/// All that the plan depends on.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The pod's UUID.
    pub uuid: &'a Uuid,
    /// The pod.
    pub pod: &'a Pod,
    /// How it is run.
    pub options: &'a RunOptions,
    /// What the host is like.
    pub facts: &'a HostFacts,
    /// The files that the plan changes or shows to the apps.
    pub existing: &'a Existing,
    /// The type of the caller's terminal, when standard input and output are one.
    pub term: Option<&'a str>,
    /// What the pod's networks have come to; nothing before they are set up, and with networks that nobody sets up.
    pub reached: &'a Reached,
    /// The block device that the pod directory is on, `MAJOR:MINOR`.
    pub storage: Option<&'a str>,
}

/// A directive of a unit, section `[Service]`; or a property of a scope.
type Directive = (&'static str, String);

/// With `--strict-isolators`, refuses what would be ignored.
fn refuse_ignored(options: &RunOptions, reports: &[IsolatorReport]) -> Result<()> {
    let ignored = |report: &&IsolatorReport| report.outcome == Outcome::Ignored;
    match reports.iter().find(ignored) {
        Some(report) if options.strict_isolators => bail!("{report} (--strict-isolators)"),
        _ => Ok(()),
    }
}

/// Content of files that the plan starts from.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// `/etc/passwd` of the stage1 image.
    pub passwd: String,
    /// `/etc/group` of the stage1 image.
    pub group: String,
    /// `/etc/hosts-fallback` of the stage1 image.
    pub hosts_fallback: String,
    /// The default system call filter of the stage1 image, compiled.
    pub default_filter: Vec<u8>,
    /// `/etc/resolv.conf` of the host, when it is to be shown.
    pub host_resolv_conf: Option<Vec<u8>>,
    /// `/etc/hosts` of the host, when it is to be shown.
    pub host_hosts: Option<Vec<u8>>,
    /// The hosts file that stage0 has written, when it is to be shown.
    pub stage0_hosts: Option<String>,
    /// The volumes of a running pod that have their directories, by key.
    pub volumes: BTreeSet<String>,
    /// The sockets of the apps that a running pod has.
    pub sockets: Sockets,
}

/// The pod, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// The pod's cgroup.
    pub cgroup: PodCgroup,
    /// What its cgroup is to have; nothing when systemd makes it, which is told then.
    pub resources: Resources,
    /// What becomes of the pod's own isolators.
    pub isolators: Vec<IsolatorReport>,
    /// What is written, in order.
    pub steps: Vec<Step>,
    /// The call of the supervisor.
    pub supervisor: Supervisor,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The mode of files whose content `--debug` keeps to itself.
const SECRET: u32 = 0o400;

/// One thing to write in the pod directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file, replaced when it is there.
    File {
        /// Where.
        path: PathBuf,
        /// What.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
    },
    /// A file that must not be there.
    NoFile {
        /// Where.
        path: PathBuf,
    },
    /// A symlink, replaced when it is there.
    Link {
        /// Where.
        path: PathBuf,
        /// To what.
        target: PathBuf,
    },
    /// The directory of an empty volume.
    Volume {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// What it starts with: an app's root and a path in it.
        filled_from: Option<(PathBuf, PathBuf)>,
    },
}

impl Step {
    /// A file that everybody may read.
    pub fn file(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Step::File {
            path,
            content: content.into(),
            mode: 0o644,
        }
    }

    /// A file for root alone: it may hold secrets.
    fn private_file(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Step::File {
            path,
            content: content.into(),
            mode: 0o600,
        }
    }

    /// A file for root alone that is not shown either.
    fn secret_file(path: PathBuf, content: impl Into<Vec<u8>>) -> Self {
        Step::File {
            path,
            content: content.into(),
            mode: SECRET,
        }
    }

    /// What the step writes.
    pub fn path(&self) -> &PathBuf {
        let (Step::File { path, .. }
        | Step::NoFile { path }
        | Step::Link { path, .. }
        | Step::Volume { path, .. }) = self;
        path
    }
}

/// The call of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    /// The network namespace that it is started in, when it is not this one's.
    pub network: Option<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(&'static str, String)>,
}

/// Plans the pod in `dir`.
///
/// # Errors
/// What the pod asks for and cannot be given.
pub fn plan(dir: &PodDir, inputs: &Inputs<'_>) -> Result<PodPlan> {
    let root = dir.stage_root();
    if inputs.options.mutable && inputs.pod.exit_policy.is_some() {
        bail!(
            "annotation {EXIT_POLICY}: has no meaning for a mutable pod, which lives until it is stopped"
        );
    }
    if inputs.options.mutable && !inputs.facts.caller.sockets.is_empty() {
        bail!(
            "LISTEN_FDS: sockets cannot be passed to a mutable pod, whose apps could not have them when they are started again"
        );
    }
    let apps = inputs.pod.apps.iter();
    let volumes = Volumes::plan(&inputs.pod.manifest, apps.clone().map(PodApp::volumes))?;
    let sockets = listen::sockets(
        inputs.pod,
        &inputs.options.network,
        &inputs.facts.caller.sockets,
    )?;
    let mut warnings = volumes.warnings.clone();
    warnings.extend(listen::warnings(inputs.pod, &inputs.options.network));
    let mut steps = files::of_pod(dir, inputs)?;
    steps.extend(volume_steps(dir, inputs, &volumes.volumes)?);
    steps.extend(app::sockets::early(&root, &sockets));
    let mut terminal = false;
    let mut capabilities = CapsHashSet::new();
    for app in apps {
        let planned = app::plan(&root, inputs, app, &volumes, &sockets)
            .with_context(|| format!("app {}", app.name()))?;
        steps.extend(planned.steps);
        steps.push(wanted_by_default(&root, &planned.unit));
        warnings.extend(planned.warnings);
        terminal |= planned.terminal;
        capabilities.extend(planned.capabilities);
    }
    steps.extend(inputs.options.mutable.then(|| pod::streams(&root)));
    let cgroup = inputs.facts.pod_cgroup(&machine_name(inputs.uuid.as_str()));
    let isolation = pod::plan(&root, inputs, &cgroup)?;
    steps.push(isolation.step);
    warnings.extend(isolation.warnings);
    // What an app that is added later will ask for is not known.
    let restricted = !inputs.options.disable_capabilities && !inputs.options.mutable;
    let capabilities = if restricted {
        let mut needed = capability::of_pod(&capabilities);
        needed.extend(isolation.sets_network.then_some(Capability::CAP_NET_ADMIN));
        needed
    } else {
        capability::all(inputs.facts.last_capability)
    };
    steps.push(match seccomp::of_pod(&capabilities) {
        Some(filter) => Step::file(root.pod_filter(), filter),
        None => Step::NoFile {
            path: root.pod_filter(),
        },
    });
    let pod = nspawn::Pod {
        volumes: &volumes.volumes,
        cgroup: &cgroup,
        terminal,
        properties: &isolation.properties,
        capabilities: &capabilities,
    };
    let supervisor = nspawn::supervisor(dir, inputs, &pod)?;
    Ok(PodPlan {
        cgroup,
        resources: isolation.resources,
        isolators: isolation.reports,
        steps,
        supervisor,
        warnings,
    })
}

/// The directories of empty volumes.
fn volume_steps<'a>(
    dir: &PodDir,
    inputs: &Inputs<'_>,
    volumes: impl IntoIterator<Item = &'a PodVolume>,
) -> Result<Vec<Step>> {
    let root = dir.stage_root();
    let mut steps = Vec::new();
    for volume in volumes {
        let Source::Empty {
            mode,
            uid,
            gid,
            filled_from,
        } = &volume.source
        else {
            continue;
        };
        let of_host = |id: u32| {
            let users = inputs.options.private_users;
            let id = users.map_or(Ok(id), |users| users.to_host(id));
            id.with_context(|| format!("volume {}", volume.key))
        };
        steps.push(Step::Volume {
            path: dir.shared_volume(&volume.key),
            mode: *mode,
            uid: of_host(*uid)?,
            gid: of_host(*gid)?,
            filled_from: filled_from
                .as_ref()
                .map(|(app, path)| (root.app_root(app), path.clone())),
        });
    }
    Ok(steps)
}

/// The paths of one app's steps all lie in the stage1 root.
struct AppPlan {
    /// The unit to start.
    unit: String,
    steps: Vec<Step>,
    warnings: Vec<String>,
    /// Whether the app has the caller's terminal.
    terminal: bool,
    /// What it may have at most.
    capabilities: CapsHashSet,
}

/// The unit that keeps an immutable pod alive while an app runs (in the image, `rootfs/`).
const POD_UNIT: &str = "pod.service";

/// Where units are linked that start with the pod.
fn wanted_by_default(root: &StageRoot, unit: &str) -> Step {
    Step::Link {
        path: root.wants().join(unit),
        target: PathBuf::from("..").join(unit),
    }
}
