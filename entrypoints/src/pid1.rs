//! The first program in the pod: does what only a process in the pod's namespaces can do before systemd starts, and
//! executes systemd in its place. In the image it is what systemd's path leads to, so that nspawn starts it and systemd
//! comes back to it when it executes itself anew; each run does the same again, to no harm.
//!
//! - systemd 252 uses a v1 controller only if it can write to it when it starts, and nspawn mounts them read-only when
//!   the pod has a cgroup namespace: limits and device rules of apps would be lost without a word. So the mounts of
//!   those controllers whose cgroup the pod has entered are made writable. Of another one the pod would see the host's
//!   own root, or a cgroup that others are in, and must not write there.
//! - In v1 hierarchies the host's systemd puts the pod into its scope, where the limits of the pod as a whole are, and
//!   nspawn no cgroup below it, as it does in the others. So the pod goes below by itself, and sees no more of the scope
//!   from then on.
//! - nspawn makes a system call filter for each pod anew, which takes 50 ms. It is told not to, and one that allows the
//!   same and was compiled with the image is loaded here. systemd that executes itself anew gets a second copy of it.
//! - A PID 1 loses a signal that it has no handler for. So the one to halt the pod is blocked from the beginning: one that
//!   comes before systemd listens is there when it does.
//! - nspawn has no option for kernel parameters, and shows `/proc/sys` read-only.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use common::cgroup::{Hierarchies, Hierarchy, PAYLOAD};
use common::pod::StageRoot;
use common::spec::PodSpec;
use nix::sched::{CloneFlags, unshare};
use procfs::process::Process;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsmount,
    fsopen, mount, mount_remount, unmount,
};

/// systemd itself.
const SYSTEMD: &str = "/usr/lib/stage1/systemd";

/// What systemd is given when it executes itself anew, to go on with what it knows.
const ANEW: &str = "--deserialize";

/// Where systemd has its hierarchies.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How nspawn mounts hierarchies.
const CGROUP_FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Prepares the pod and executes systemd with the same arguments. Returns only when that fails.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    common::sys::block_halt_signal().context("block the signal to halt")?;
    let path = StageRoot::new("/").pod_spec();
    let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let spec: PodSpec =
        serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))?;
    open_controllers(&spec.controllers)?;
    // What is below the scope already must not go deeper.
    if spec.in_scope && !args.iter().any(|arg| arg == ANEW) {
        leave_scope(&spec.controllers).context("leave the scope of the host's systemd")?;
    }
    set_parameters(&spec).context("set the pod's kernel parameters")?;
    let filter = filter(&StageRoot::new("/"))?;
    common::sys::load_seccomp(&filter).context("load the pod's system call filter")?;
    let error = Command::new(SYSTEMD).arg0("systemd").args(args).exec();
    Err(error).with_context(|| format!("execute {SYSTEMD}"))
}

/// The compiled filter of the pod: its own, where its apps have capabilities that most have not, else the image's.
fn filter(root: &StageRoot) -> Result<Vec<u8>> {
    let (own, default) = (root.pod_filter(), root.default_pod_filter());
    let path = if own.exists() { own } else { default };
    std::fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// Makes the mounts of these v1 controllers writable, for systemd; not those that come with a volume of the host.
fn open_controllers(controllers: &[String]) -> Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let own = Process::myself().context("read /proc/self")?;
    let mounts = own.mountinfo().context("read /proc/self/mountinfo")?;
    for mount in mounts {
        let entered = controllers
            .iter()
            .any(|c| mount.super_options.contains_key(c));
        let for_systemd = mount.mount_point.starts_with(CGROUPS);
        if mount.fs_type != "cgroup" || !for_systemd || !entered || is_of_host(&mount.mount_point) {
            continue;
        }
        let flags = MountFlags::BIND | CGROUP_FLAGS;
        if let Err(err) = mount_remount(&mount.mount_point, flags, c"") {
            // What cannot be enforced for it is reported app by app.
            eprintln!(
                "pid1: warning: make {} writable: {err}",
                mount.mount_point.display()
            );
        }
    }
    Ok(())
}

/// Whether the top of a v1 mount is that of the hierarchy, which alone has this file (cgroups(7)): whatever was planned, it
/// is the host's.
fn is_of_host(mount_point: &Path) -> bool {
    mount_point.join("release_agent").exists()
}

/// Goes into a cgroup below the one that it is in, in the hierarchies of these v1 controllers, and makes it the top of
/// what the pod sees: by a cgroup namespace of its own, and new mounts, since a mount shows what it showed before.
fn leave_scope(controllers: &[String]) -> Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let hierarchies = Hierarchies::read(Path::new("/proc"))?;
    let in_scope = |h: &Hierarchy| {
        h.controllers.iter().any(|c| controllers.contains(c)) && !is_of_host(&h.mount_point)
    };
    let in_scope: Vec<_> = hierarchies.0.into_iter().filter(in_scope).collect();
    for hierarchy in &in_scope {
        let below = hierarchy.mount_point.join(PAYLOAD);
        // In a user namespace init has made it.
        std::fs::create_dir_all(&below).with_context(|| format!("make {}", below.display()))?;
        let processes = below.join("cgroup.procs");
        // "0" is the writing process (cgroups(7)).
        std::fs::write(&processes, "0")
            .with_context(|| format!("write 0 to {}", processes.display()))?;
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    for hierarchy in &in_scope {
        let at = &hierarchy.mount_point;
        mount_anew(hierarchy).with_context(|| format!("mount {} anew", at.display()))?;
    }
    Ok(())
}

/// Mounts a hierarchy again at its place.
fn mount_anew(hierarchy: &Hierarchy) -> Result<()> {
    let controllers = CString::new(hierarchy.controllers.join(","))?;
    unmount(&hierarchy.mount_point, UnmountFlags::DETACH)?;
    let at = &hierarchy.mount_point;
    Ok(mount(
        "cgroup",
        at,
        "cgroup",
        CGROUP_FLAGS,
        controllers.as_c_str(),
    )?)
}

/// Sets the kernel parameters of the pod's namespaces, and looks whether the kernel has taken them.
fn set_parameters(spec: &PodSpec) -> Result<()> {
    if spec.sysctl.is_empty() {
        return Ok(());
    }
    let proc = new_proc().context("make a proc file system")?;
    for (name, value) in &spec.sysctl {
        let path = format!("sys/{}", name.replace('.', "/"));
        set_parameter(&proc, Path::new(&path), value).with_context(|| name.clone())?;
    }
    Ok(())
}

/// A proc file system that is mounted nowhere: the pod's own has read-only mounts in it.
fn new_proc() -> Result<OwnedFd> {
    let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

fn set_parameter(proc: impl AsFd, path: &Path, value: &str) -> Result<()> {
    let open = |flags| openat(&proc, path, flags | OFlags::CLOEXEC, Mode::empty());
    let file = open(OFlags::WRONLY).context("the pod has no such parameter of its own")?;
    File::from(file)
        .write_all(value.as_bytes())
        .with_context(|| format!("the kernel does not take {value:?}"))?;
    let mut found = String::new();
    File::from(open(OFlags::RDONLY)?).read_to_string(&mut found)?;
    let same = found.split_whitespace().eq(value.split_whitespace());
    ensure!(same, "the kernel made {:?} of {value:?}", found.trim());
    Ok(())
}
