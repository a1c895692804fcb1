//! The run entrypoint: makes the pod in the working directory and becomes its supervisor, so that its exit status
//! is the pod's.
//!
//! Facts, plan, apply (see the library): nothing is changed before everything is known to be good, and what a
//! failing step has changed is put back.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use common::appc::isolator::SELINUX_CONTEXT;
use common::apply::{Applied, apply};
use common::caller::Caller;
use common::cgroup::Entered;
use common::facts::{HostFacts, PodCgroup};
use common::flags;
use common::id_range::IdRange;
use common::isolate::lsm;
use common::kernel;
use common::limits::{self, Limits};
use common::load::Pod;
use common::net::Reached;
use common::options::{self, HostsMode, ResolvMode, RunOptions};
use common::plan::{Existing, Inputs, PodPlan, Step, Supervisor};
use common::pod::{PodDir, machine_name};
use common::status::{IsolatorReport, Outcome};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::crossing::manage_on_host;
use crate::network::{self, Networks, Wishes};
use crate::passed::Sockets;
use crate::{print_help, uuid};

const USAGE: &str = "init [OPTIONS] UUID";
const ABOUT: &str = "Starts the pod in the working directory. Called by stage0, with the descriptor of the locked pod\n\
    directory in RKT_LOCK_FD.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&options::FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &options::FLAGS));
    }
    let uuid = uuid(&flags.rest)?;
    kernel::check()?;
    let mut options = RunOptions::from_flags(&flags)?;
    let lock = take_lock()?;
    let variable = |name: &str| std::env::var(name).ok();
    let sockets = Sockets::take(variable, lock.as_raw_fd())?;
    // The modes of what is written are the plan's, not the caller's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));

    let dir = PodDir::new(std::env::current_dir().context("find the working directory")?);
    if options.private_users.is_some() {
        kernel::check_user_namespaces(Path::new("/proc"))?;
    }
    let pod = Pod::load(&dir, options.private_users)?;
    options.mutable |= pod.mutable;
    let facts = host_facts(variable, &sockets)?;
    options.mount_context = facts.mount_context().map(str::to_owned);
    let existing = existing(&dir, &options)?;
    let term = terminal_type();
    let storage = limits::storage(dir.path(), Path::new("/sys"));
    let apart = Reached::default();
    let inputs = Inputs {
        uuid: &uuid,
        pod: &pod,
        options: &options,
        facts: &facts,
        existing: &existing,
        term: term.as_deref(),
        reached: &apart,
        storage: storage.as_deref(),
    };
    start(&dir, &inputs, &lock, &sockets)
}

/// What the host is like, and what the caller has handed over besides options.
fn host_facts(variable: impl Fn(&str) -> Option<String>, sockets: &Sockets) -> Result<HostFacts> {
    let mut facts = HostFacts {
        selinux_context: variable("RKT_SELINUX_CONTEXT"),
        selinux_mount_context: variable("RKT_SELINUX_MOUNT_CONTEXT"),
        caller: Caller {
            notify_socket: variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            sockets: sockets.passed.clone(),
        },
        ..HostFacts::read(Path::new("/"))?
    };
    if facts.cgroups.is_unified() {
        let found = kernel::has_device_programs();
        facts.device_programs = found.context("load a BPF program for devices")?;
    }
    Ok(facts)
}

/// Makes the pod and becomes its supervisor. Returns only when that fails, with everything put back.
fn start<'a>(
    dir: &'a PodDir,
    inputs: &Inputs<'a>,
    lock: &OwnedFd,
    sockets: &Sockets,
) -> Result<ExitCode> {
    let (options, facts) = (inputs.options, inputs.facts);
    let mut plan = common::plan::plan(dir, inputs)?;
    check_contexts(inputs.pod, facts)?;
    let wishes = Wishes {
        dir,
        uuid: inputs.uuid,
        pod: inputs.pod,
        options,
    };
    let networks = network::prepare(Path::new("/"), &wishes)?;
    for warning in &plan.warnings {
        eprintln!("init: warning: {warning}");
    }
    // Where the cgroups are is written before they are made: gc finds them whenever this program is killed.
    let located = locate(dir, &plan.cgroup)?;
    let machine = machine_name(inputs.uuid.as_str());
    let entered = enter_cgroup(dir, facts, &plan.cgroup, &machine, options.private_users)?;
    let networks = networks.map(|n| n.set_up(dir, &plan.cgroup.path));
    let networks = networks.transpose()?;
    if let Some(networks) = &networks {
        // What they have come to shows in files and environments; all that can fail has been planned before.
        let inputs = Inputs {
            reached: networks.reached(),
            ..*inputs
        };
        plan = common::plan::plan(dir, &inputs)?;
    }
    if options.debug {
        show(&plan, networks.as_ref())?;
    }
    let limits = Limits::of_pod(&facts.cgroups, &plan.cgroup.path, inputs.storage);
    let limited = limit_pod(dir, options, &plan, &limits)?;
    let applied = apply(&plan.steps)?;
    let announced = announce(dir)?;
    let ports = networks.iter().flat_map(|networks| &networks.ports);
    let error = become_supervisor(&plan.supervisor, ports.chain([lock]), sockets);
    drop((announced, applied, limited, networks, entered, located));
    Err(error)
}

/// What `--debug` prints: the plan, and the networks, which are looked at once more.
fn show(plan: &PodPlan, networks: Option<&Networks<'_>>) -> Result<()> {
    eprint!("{plan}");
    if let Some(networks) = networks {
        networks.check()?;
        networks.lines().iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}

/// The lock that stage0 holds on the pod directory, which must stay held until the pod ends. Nothing that is
/// started from here but the supervisor may inherit it, or anything else that the caller had open.
fn take_lock() -> Result<OwnedFd> {
    let number = std::env::var("RKT_LOCK_FD")
        .context("RKT_LOCK_FD: must be the descriptor of the pod's lock")?;
    let fd = number
        .parse()
        .with_context(|| format!("RKT_LOCK_FD: {number:?} is not a number"))?;
    let lock =
        common::sys::inherited_fd(fd).with_context(|| format!("RKT_LOCK_FD: descriptor {fd}"))?;
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
    Ok(lock)
}

/// The type of the caller's terminal; `None` when standard input and output are not one.
fn terminal_type() -> Option<String> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    terminal.then(|| std::env::var("TERM").unwrap_or_else(|_| "linux".into()))
}

fn existing(dir: &PodDir, options: &RunOptions) -> Result<Existing> {
    let root = dir.stage_root();
    let text =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let of_host = |path: &str| fs::read(path).with_context(|| format!("read {path} of the host"));
    let resolv = (options.resolv == ResolvMode::Host)
        .then(|| of_host("/etc/resolv.conf"))
        .transpose()?;
    let hosts = (options.hosts == HostsMode::Host)
        .then(|| of_host("/etc/hosts"))
        .transpose()?;
    let stage0_hosts = (options.hosts == HostsMode::Stage0 && root.hosts().exists())
        .then(|| text(&root.hosts()))
        .transpose()?;
    Ok(Existing {
        stage0_hosts,
        passwd: text(&root.passwd())?,
        group: text(&root.group())?,
        hosts_fallback: text(&root.hosts_fallback())?,
        default_filter: fs::read(root.default_filter())
            .with_context(|| format!("read {}", root.default_filter().display()))?,
        host_resolv_conf: resolv,
        host_hosts: hosts,
        ..Existing::default()
    })
}

/// Refuses SELinux contexts that the host's policy does not know, before anything is made.
pub(crate) fn check_contexts(pod: &Pod, facts: &HostFacts) -> Result<()> {
    if !facts.selinux {
        return Ok(());
    }
    let check = |context: Option<&str>| match context {
        Some(context) => lsm::check_context(Path::new("/"), context),
        None => Ok(()),
    };
    check(facts.process_context()).context("RKT_SELINUX_CONTEXT")?;
    check(facts.mount_context()).context("RKT_SELINUX_MOUNT_CONTEXT")?;
    check(lsm::selinux(&pod.manifest.isolators)?.as_deref()).context(SELINUX_CONTEXT)?;
    for app in &pod.apps {
        let context = lsm::selinux(&app.app.isolators)?;
        check(context.as_deref())
            .with_context(|| format!("app {}: {SELINUX_CONTEXT}", app.name()))?;
    }
    Ok(())
}

/// Enters the pod's cgroup. Where nspawn has systemd make it, only those in it are made and entered that the pod's root
/// is to have in a user namespace: others the pod makes itself.
fn enter_cgroup(
    dir: &PodDir,
    facts: &HostFacts,
    cgroup: &PodCgroup,
    machine: &str,
    users: Option<IdRange>,
) -> Result<Option<Entered>> {
    if cgroup.scope && users.is_none() {
        return Ok(None);
    }
    let mut hierarchies = facts.cgroups.clone();
    if cgroup.scope {
        hierarchies = hierarchies.of_scopes();
        if !hierarchies.0.is_empty() {
            let own = std::process::id().to_string();
            manage_on_host(&dir.stage_root(), ["hold-controllers", machine, &own])?;
        }
    }
    hierarchies.enter(&cgroup.path, users).map(Some)
}

/// Sets the limits of the pod's cgroup, and notes what became of them and of the pod's other isolators.
fn limit_pod(
    dir: &PodDir,
    options: &RunOptions,
    plan: &PodPlan,
    limits: &Limits<'_>,
) -> Result<Applied> {
    if plan.isolators.is_empty() {
        return Ok(Applied::default());
    }
    limits.set(&plan.resources);
    let mut reports = plan.isolators.clone();
    for report in IsolatorReport::correct(&mut reports, limits.reports(&plan.resources)) {
        if options.strict_isolators && report.outcome == Outcome::Ignored {
            bail!("{report} (--strict-isolators)");
        }
        eprintln!("init: warning: pod: {report}");
    }
    let mut json = serde_json::to_string_pretty(&reports)?;
    json.push('\n');
    apply(&[Step::file(dir.stage_root().pod_isolators(), json)])
}

/// Writes where the pod's cgroups are.
fn locate(dir: &PodDir, cgroup: &PodCgroup) -> Result<Applied> {
    let path = cgroup
        .path
        .to_str()
        .context("the pod's cgroup is not UTF-8")?;
    apply(&[Step::file(dir.subcgroup(), path)])
}

/// Tells stage0 the pid, by which it knows that the pod has started: this process becomes the supervisor.
fn announce(dir: &PodDir) -> Result<Applied> {
    apply(&[Step::file(dir.ppid(), std::process::id().to_string())])
}

/// Executes the supervisor in the place of this program, with the lock, the ports that it holds for the pod, and the
/// sockets. Returns only when that fails.
fn become_supervisor<'a>(
    supervisor: &Supervisor,
    held: impl IntoIterator<Item = &'a OwnedFd>,
    sockets: &Sockets,
) -> anyhow::Error {
    let Some((program, args)) = supervisor.command.split_first() else {
        return anyhow::anyhow!("the plan names no supervisor");
    };
    let _left = match supervisor.network.as_deref().map(network::join).transpose() {
        Ok(left) => left,
        Err(err) => return err,
    };
    for held in held {
        if let Err(err) = fcntl_setfd(held, FdFlags::empty()) {
            return anyhow::Error::new(err)
                .context(format!("keep descriptor {}", held.as_raw_fd()));
        }
    }
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(supervisor.environment.iter().map(|(k, v)| (k, v)));
    if let Err(err) = sockets.pass(&mut command) {
        return err;
    }
    anyhow::Error::new(command.exec()).context(format!("execute {program}"))
}
