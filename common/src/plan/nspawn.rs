//! The flavor that starts the pod with the systemd-nspawn of the stage1 image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Inputs, Supervisor, files};
use caps::{Capability, CapsHashSet};

use crate::cri_log;
use crate::facts::{PRINTK_TIME, PodCgroup};
use crate::isolate::capability;
use crate::net::{Network, namespace};
use crate::options::Ipc;
use crate::pod::{PodDir, STAGE_ROOT, StageRoot, machine_name};
use crate::unit::escape;
use crate::volume::PodVolume;

/// The image's own dynamic loader, by which its programs run on a host without systemd's libraries. The file itself: the
/// link to it in usr/lib64 is an absolute one, which would lead to the host's.
pub const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
/// Where the image's libraries are.
pub const LIBRARIES: [&str; 2] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
];

/// Options of nspawn that do not depend on the pod.
const ALWAYS: [&str; 6] = [
    "--boot",
    "--quiet",
    "--settings=no",
    "--resolv-conf=off",
    "--timezone=off",
    // PID 1 writes its first messages, before there is a journal, to the kernel's log, or else to the console.
    "--bind=/dev/null:/dev/kmsg",
];

/// What the plan knows of the pod when it comes to the supervisor.
pub(super) struct Pod<'a> {
    pub(super) volumes: &'a [PodVolume],
    pub(super) cgroup: &'a PodCgroup,
    /// Whether the pod's console is the caller's terminal.
    pub(super) terminal: bool,
    /// Properties of the scope, when systemd makes one.
    pub(super) properties: &'a [String],
    /// What it has, its supervisor included.
    pub(super) capabilities: &'a CapsHashSet,
}

/// What nspawn 252 gives a container that is not asked about, network apart (systemd-nspawn(1), `--capability=`).
const NSPAWN_DEFAULT: [Capability; 26] = [
    Capability::CAP_AUDIT_CONTROL,
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_IPC_OWNER,
    Capability::CAP_KILL,
    Capability::CAP_LEASE,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_BROADCAST,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_BOOT,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_NICE,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_SYS_TTY_CONFIG,
];

pub(super) fn supervisor(dir: &PodDir, inputs: &Inputs<'_>, pod: &Pod<'_>) -> Result<Supervisor> {
    if !inputs.facts.os_release {
        bail!(
            "this host has neither /etc/os-release nor /usr/lib/os-release, which systemd-nspawn needs: make one"
        );
    }
    // Paths from the pod directory, in which the supervisor is started: the directory's own path may have characters
    // (`:`, `;`, `$`) that mean something in the loader's list of libraries.
    let libraries = LIBRARIES.map(|lib| format!("{STAGE_ROOT}/{lib}")).join(":");
    let mut command = vec![
        format!("{STAGE_ROOT}/{LOADER}"),
        "--library-path".into(),
        libraries,
        "--argv0".into(),
        "systemd-nspawn".into(),
        format!("{STAGE_ROOT}/usr/bin/systemd-nspawn"),
        format!("--directory={STAGE_ROOT}"),
        format!("--machine={}", machine_name(inputs.uuid.as_str())),
        format!("--uuid={}", inputs.uuid),
        format!("--hostname={}", files::hostname(inputs)),
    ];
    command.extend(ALWAYS.map(str::to_owned));
    let option = |on: bool, yes: &str, no: &str| if on { yes } else { no }.to_owned();
    command.extend([
        option(
            inputs.facts.journal,
            "--link-journal=try-guest",
            "--link-journal=no",
        ),
        option(
            inputs.facts.system_bus && inputs.facts.machined,
            "--register=yes",
            "--register=no",
        ),
        option(pod.terminal, "--console=interactive", "--console=read-only"),
    ]);
    if !pod.cgroup.scope {
        command.push("--keep-unit".into());
    }
    if inputs.facts.caller.notify_socket.is_some() {
        // The pod is up when its systemd says so, which waits for the apps, and not when nspawn has started it.
        command.push("--notify-ready=yes".into());
    }
    let properties = pod.properties.iter();
    command.extend(properties.map(|property| format!("--property={property}")));
    let mut network = network_namespace(inputs);
    match &network {
        None if inputs.options.network == Network::None => {
            command.push("--private-network".into());
        }
        // nspawn would join it from the pod's user namespace, which may not.
        Some(path) if inputs.options.private_users.is_none() => {
            command.push(in_namespace(path)?);
            network = None;
        }
        // In a network namespace that nspawn knows of the pod does not see the file.
        _ if inputs.facts.printk_time => {
            command.push(format!("--bind-ro=/dev/null:{PRINTK_TIME}"));
        }
        _ => {}
    }
    let contexts = [
        ("--selinux-context", inputs.facts.process_context()),
        ("--selinux-apifs-context", inputs.facts.mount_context()),
    ];
    for (option, context) in contexts {
        command.extend(context.map(|context| format!("{option}={context}")));
    }
    if let Some(range) = inputs.options.private_users {
        // stage0 has given the trees to the range already.
        command.push(format!("--private-users={}:{}", range.shift, range.count));
        command.push("--private-users-ownership=off".into());
    }
    command.extend(capabilities(pod.capabilities));
    for volume in pod.volumes {
        command.push(bind(dir, inputs, volume)?);
    }
    command.extend(log_directory(inputs)?);
    command.push("--".into());
    command.extend(supervisor_options(inputs.options.debug).map(str::to_owned));
    Ok(Supervisor {
        network,
        command,
        environment: environment(inputs),
    })
}

/// The network namespace that is there for the pod already.
fn network_namespace(inputs: &Inputs<'_>) -> Option<PathBuf> {
    match &inputs.options.network {
        Network::None | Network::Host => None,
        Network::Given(path) => Some(path.clone()),
        Network::All | Network::Networks(_) => {
            let machine = machine_name(inputs.uuid.as_str());
            Some(namespace(Path::new("/"), &machine))
        }
    }
}

/// The option that starts the pod in a network namespace that is there already.
fn in_namespace(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .context("path of the namespace is not UTF-8")?;
    Ok(format!("--network-namespace-path={path}"))
}

/// The options that give the pod what its supervisor and its apps need and nothing else.
fn capabilities(needed: &CapsHashSet) -> Vec<String> {
    let default = CapsHashSet::from(NSPAWN_DEFAULT);
    let list = |set: CapsHashSet| capability::names(&set).join(",");
    let added = list(needed.difference(&default).copied().collect());
    // In a network of its own nspawn adds CAP_NET_ADMIN.
    let mut dropped: CapsHashSet = default.difference(needed).copied().collect();
    dropped.extend(
        (!needed.contains(&Capability::CAP_NET_ADMIN)).then_some(Capability::CAP_NET_ADMIN),
    );
    let dropped = list(dropped);
    let option = |name: &str, list: String| (!list.is_empty()).then(|| format!("{name}={list}"));
    option("--capability", added)
        .into_iter()
        .chain(option("--drop-capability", dropped))
        .collect()
}

/// The options of the pod's PID 1.
fn supervisor_options(debug: bool) -> [&'static str; 3] {
    match debug {
        true => [
            "--log-level=info",
            "--log-target=console",
            "--show-status=yes",
        ],
        false => [
            "--log-level=notice",
            "--log-target=journal-or-kmsg",
            "--show-status=no",
        ],
    }
}

fn environment(inputs: &Inputs<'_>) -> Vec<(&'static str, String)> {
    let mut environment = vec![("PATH", crate::env::DEFAULT_PATH.to_owned())];
    environment.extend(inputs.term.map(|term| ("TERM", term.to_owned())));
    // For nspawn itself: the pod gets one of its own.
    let notify_socket = inputs.facts.caller.notify_socket.clone();
    environment.extend(notify_socket.map(|path| ("NOTIFY_SOCKET", path)));
    // nspawn makes no filter of its own, which takes it 50 ms: the pod's first program loads one that is made already.
    environment.push(("SYSTEMD_SECCOMP", "0".into()));
    // Nor does it lock the root: stage0 has locked the pod. A killed nspawn would leave its lock files on the host.
    environment.push(("SYSTEMD_NSPAWN_LOCK", "0".into()));
    // Else nspawn looks for the image's systemd by a pattern (glob(7)) that begins with the pod's path: where that has
    // characters of patterns, it finds none, and makes control groups for one that is too old for these.
    if inputs.facts.cgroups.is_unified() {
        environment.push(("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1".into()));
    }
    if inputs.options.ipc == Ipc::Parent {
        environment.push(("SYSTEMD_NSPAWN_SHARE_NS_IPC", "1".into()));
    }
    environment
}

/// The option that mounts the directory for logs of Kubernetes.
fn log_directory(inputs: &Inputs<'_>) -> Result<Option<String>> {
    let Some(source) = cri_log::directory(&inputs.pod.manifest.annotations)? else {
        return Ok(None);
    };
    let source = source.to_str().context("log directory is not UTF-8")?;
    let target = StageRoot::new("/").kubernetes_log();
    let source = escape::colon(source);
    // The pod's root writes to it as the host's.
    let map = inputs.options.private_users.map_or("", |_| ":rbind,idmap");
    Ok(Some(format!("--bind={source}:{}{map}", target.display())))
}

/// The option that mounts a volume in the pod.
fn bind(dir: &PodDir, inputs: &Inputs<'_>, volume: &PodVolume) -> Result<String> {
    let origin = volume.origin(dir);
    let source = origin.path.to_str();
    let source = source.context("volume source is not UTF-8")?;
    let target = StageRoot::new("/").volumes().join(&volume.key);
    let target = target.to_str().context("volume target is not UTF-8")?;
    let option = if volume.read_only {
        "--bind-ro"
    } else {
        "--bind"
    };
    let recursion = if origin.recursive { "rbind" } else { "norbind" };
    // Without a user namespace owners are the same anyway.
    let mapped = origin.idmap && inputs.options.private_users.is_some();
    let map = if mapped { ",idmap" } else { "" };
    Ok(format!(
        "{option}={}:{target}:{recursion}{map}",
        escape::colon(source)
    ))
}
