//! From a request to the program that the kernel runs.

use std::fs::File;
use std::io::{Read, Seek};

use anyhow::{Context, Result};
use caps::{Capability, CapsHashSet};
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, scmp_cmp,
};
use nix::errno::Errno;
use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};

use super::sets;
use super::{Mode, Request};
use crate::isolate::capability;

/// The call that executes the app's program, when the filter is in force already: so no filter can forbid it.
const EXECUTE: &str = "execve";

/// `personality(2)`: these are allowed in the default filter (PER_LINUX, PER_LINUX32, UNAME26, both, and the question).
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// `socket(2)` of these is for the audit system alone.
const AUDIT_SOCKET: (u64, u64) = (libc::AF_NETLINK as u64, libc::NETLINK_AUDIT as u64);

/// A filter, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The program, as an array of `struct sock_filter` (seccomp(2)).
    pub program: Vec<u8>,
    /// How it differs from what was asked for.
    pub notes: Vec<String>,
}

/// Compiles what was asked for, or the default filter, in which some calls depend on the app's capabilities.
pub fn compile(request: Option<&Request>, capabilities: &CapsHashSet) -> Result<Compiled> {
    let (context, notes) = match request {
        Some(request) => (requested(request)?, notes(request, capabilities)),
        None => (
            default(capabilities).context("make the default filter")?,
            Vec::new(),
        ),
    };
    Ok(Compiled {
        program: export(&context)?,
        notes,
    })
}

/// Compiles the filter of a pod as a whole, its systemd included: it does what nspawn's own would do, which nspawn
/// takes 50 ms to make for each pod.
pub fn compile_pod(capabilities: &CapsHashSet) -> Result<Vec<u8>> {
    // A call that no list here has is answered as if the kernel did not have it, so that programs fall back.
    let mut context = context(ScmpAction::Errno(libc::ENOSYS))?;
    let mut calls = sets::pod().allowed(capabilities);
    calls.remove("socket");
    let refused = sets::known().filter(|call| call != "socket" && !calls.contains(call));
    let refused: Vec<_> = refused.collect();
    add(
        &mut context,
        ScmpAction::Errno(libc::EPERM),
        refused.iter().map(String::as_str),
    )?;
    add(
        &mut context,
        ScmpAction::Allow,
        calls.iter().map(String::as_str),
    )?;
    // The audit system is the host's: programs take this error for a kernel without one.
    add_sockets(&mut context, ScmpAction::Errno(libc::EAFNOSUPPORT))?;
    export(&context)
}

fn context(default: ScmpAction) -> Result<ScmpFilterContext> {
    let mut context = ScmpFilterContext::new(default)?;
    if cfg!(target_arch = "x86_64") {
        // 32-bit programs run in containers elsewhere, so they do here.
        context.add_arch(ScmpArch::X86)?;
        context.add_arch(ScmpArch::X32)?;
    }
    // A call of an architecture that is not named is one that no rule could judge.
    context.set_act_badarch(ScmpAction::KillProcess)?;
    Ok(context)
}

fn requested(request: &Request) -> Result<ScmpFilterContext> {
    let refuse = request
        .errno
        .map_or(ScmpAction::KillProcess, ScmpAction::Errno);
    let allow = ScmpAction::Allow;
    // With everything in the set, what it says is the rule, and nothing has another.
    let (default, action) = match (request.mode, request.all) {
        (Mode::Retain, false) => (refuse, Some(allow)),
        (Mode::Remove, false) => (allow, Some(refuse)),
        (Mode::Retain, true) => (allow, None),
        (Mode::Remove, true) => (refuse, None),
    };
    let mut context = context(default)?;
    if let Some(action) = action {
        let names = request
            .names
            .iter()
            .map(String::as_str)
            .filter(|name| *name != EXECUTE);
        add(&mut context, action, names)?;
    }
    if default != allow {
        add(&mut context, allow, [EXECUTE])?;
    }
    Ok(context)
}

fn notes(request: &Request, capabilities: &CapsHashSet) -> Vec<String> {
    let mut notes = Vec::new();
    let named = request.all || request.names.contains(EXECUTE);
    if named == (request.mode == Mode::Remove) {
        notes.push(format!(
            "{EXECUTE} stays allowed, which executes the app's program"
        ));
    }
    // libseccomp has negative numbers for the calls of other architectures.
    let foreign = |name: &str| ScmpSyscall::from_name(name).is_ok_and(|call| i32::from(call) < 0);
    notes.extend(listed(
        "no system calls of this architecture",
        request.names.iter().filter(|name| foreign(name)),
    ));
    if request.mode == Mode::Retain {
        let of_pod = sets::pod().allowed(&capability::of_pod(capabilities));
        let refused = request
            .names
            .iter()
            .filter(|name| !foreign(name) && !of_pod.contains(*name));
        notes.extend(listed("refused to every app of the pod", refused));
    }
    notes
}

/// A note about some calls, the first of which it names; `None` when there are none.
fn listed<'a>(what: &str, calls: impl Iterator<Item = &'a String>) -> Option<String> {
    let calls: Vec<_> = calls.map(String::as_str).collect();
    match calls.len() {
        0 => None,
        1..=10 => Some(format!("{what}: {}", calls.join(", "))),
        many => Some(format!(
            "{what}: {} and {} more",
            calls[..10].join(", "),
            many - 10
        )),
    }
}

/// The default filter: the calls in the list, others as the capabilities allow.
fn default(capabilities: &CapsHashSet) -> Result<ScmpFilterContext> {
    let list = sets::default();
    let refuse = ScmpAction::Errno(libc::EPERM);
    let mut context = context(ScmpAction::Errno(libc::ENOSYS))?;
    add(
        &mut context,
        ScmpAction::Allow,
        list.allow.iter().map(String::as_str),
    )?;
    add(&mut context, refuse, list.refuse.iter().map(String::as_str))?;
    for (capability, names) in &list.for_capability {
        let capability: Capability = capability
            .parse()
            .with_context(|| format!("capability {capability:?}"))?;
        let action = if capabilities.contains(&capability) {
            ScmpAction::Allow
        } else {
            refuse
        };
        add(&mut context, action, names.iter().map(String::as_str))?;
    }
    let personality = ScmpSyscall::from_name("personality")?;
    for allowed in PERSONALITIES {
        context.add_rule_conditional(
            ScmpAction::Allow,
            personality,
            &[scmp_cmp!($arg0 == allowed)],
        )?;
    }
    if capabilities.contains(&Capability::CAP_AUDIT_WRITE) {
        context.add_rule(ScmpAction::Allow, ScmpSyscall::from_name("socket")?)?;
    } else {
        add_sockets(&mut context, ScmpAction::Errno(libc::EINVAL))?;
    }
    Ok(context)
}

/// Allows every socket but those of the audit system.
fn add_sockets(context: &mut ScmpFilterContext, audit: ScmpAction) -> Result<()> {
    let socket = ScmpSyscall::from_name("socket")?;
    let (family, protocol) = AUDIT_SOCKET;
    let not = |arg, value| ScmpArgCompare::new(arg, ScmpCompareOp::NotEqual, value);
    context.add_rule_conditional(
        audit,
        socket,
        &[scmp_cmp!($arg0 == family), scmp_cmp!($arg2 == protocol)],
    )?;
    context.add_rule_conditional(ScmpAction::Allow, socket, &[not(0, family)])?;
    context.add_rule_conditional(ScmpAction::Allow, socket, &[not(2, protocol)])?;
    Ok(())
}

fn add<'a>(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    for name in names {
        // Lists are made with other versions of libseccomp: a call that this one does not know has no number here.
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        context
            .add_rule(action, call)
            .with_context(|| format!("add a rule for {name}"))?;
    }
    Ok(())
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>> {
    let mut file =
        File::from(memfd_create("filter", MemfdFlags::CLOEXEC).context("make a file in memory")?);
    context
        .export_bpf(&file)
        .context("compile a system call filter")?;
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    anyhow::ensure!(
        !program.is_empty(),
        "compile a system call filter: {}",
        Errno::EINVAL
    );
    Ok(program)
}
