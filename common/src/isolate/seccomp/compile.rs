//! From a request to the program that the kernel runs.

use anyhow::{Context, Result};
use caps::{Capability, CapsHashSet};
use libseccomp::ScmpSyscall;
use nix::libc;

use super::program::{Action, Filter, Rule};
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
    let (filter, notes) = match request {
        Some(request) => (requested(request), notes(request, capabilities)),
        None => (
            default(capabilities).context("make the default filter")?,
            Vec::new(),
        ),
    };
    let program = filter.program();
    Ok(Compiled { program, notes })
}

/// Compiles the filter of a pod as a whole, its systemd included: it does what nspawn's own would do, which nspawn
/// takes 50 ms to make for each pod.
pub fn compile_pod(capabilities: &CapsHashSet) -> Vec<u8> {
    // A call that no list here has is answered as if the kernel did not have it, so that programs fall back.
    let mut filter = Filter::new(Action::Errno(libc::ENOSYS));
    let calls = sets::pod().allowed(capabilities);
    for call in sets::known().filter(|call| !calls.contains(call)) {
        filter.add(&call, &Action::Errno(libc::EPERM).into());
    }
    for call in &calls {
        filter.add(call, &Action::Allow.into());
    }
    // The audit system is the host's: programs take this error for a kernel without one.
    filter.add("socket", &sockets(Action::Errno(libc::EAFNOSUPPORT)));
    filter.program()
}

fn requested(request: &Request) -> Filter {
    let refuse = request.errno.map_or(Action::Kill, Action::Errno);
    let allow = Action::Allow;
    // With everything in the set, what it says is the rule, and nothing has another.
    let (default, action) = match (request.mode, request.all) {
        (Mode::Retain, false) => (refuse, Some(allow)),
        (Mode::Remove, false) => (allow, Some(refuse)),
        (Mode::Retain, true) => (allow, None),
        (Mode::Remove, true) => (refuse, None),
    };
    let mut filter = Filter::new(default);
    if let Some(action) = action {
        for name in &request.names {
            filter.add(name, &action.into());
        }
    }
    filter.add(EXECUTE, &allow.into());
    filter
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
    let unknown = |name: &&String| !is_known(name);
    notes.extend(listed(
        "unknown to this libseccomp",
        request.names.iter().filter(unknown),
    ));
    if request.mode == Mode::Retain {
        let of_pod = sets::pod().allowed(&capability::of_pod(capabilities));
        let refused = request
            .names
            .iter()
            .filter(|name| is_known(name) && !foreign(name) && !of_pod.contains(*name));
        notes.extend(listed("refused to every app of the pod", refused));
    }
    notes
}

/// Whether libseccomp has a number for a system call, if only on another architecture.
pub(super) fn is_known(name: &str) -> bool {
    ScmpSyscall::from_name(name).is_ok()
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
fn default(capabilities: &CapsHashSet) -> Result<Filter> {
    let list = sets::default();
    let (allow, refuse) = (Rule::from(Action::Allow), Action::Errno(libc::EPERM).into());
    let mut filter = Filter::new(Action::Errno(libc::ENOSYS));
    list.refuse
        .iter()
        .for_each(|name| filter.add(name, &refuse));
    for (capability, names) in &list.for_capability {
        let capability: Capability = capability
            .parse()
            .with_context(|| format!("capability {capability:?}"))?;
        let granted = capabilities.contains(&capability);
        let rule = if granted { &allow } else { &refuse };
        names.iter().for_each(|name| filter.add(name, rule));
    }
    list.allow.iter().for_each(|name| filter.add(name, &allow));
    let personalities = Rule {
        cases: PERSONALITIES
            .map(|allowed| (vec![(0, allowed)], Action::Allow))
            .into(),
        otherwise: Action::Errno(libc::ENOSYS),
    };
    filter.add("personality", &personalities);
    if capabilities.contains(&Capability::CAP_AUDIT_WRITE) {
        filter.add("socket", &allow);
    } else {
        filter.add("socket", &sockets(Action::Errno(libc::EINVAL)));
    }
    Ok(filter)
}

/// Allows every socket but those of the audit system.
fn sockets(audit: Action) -> Rule {
    let (family, protocol) = AUDIT_SOCKET;
    Rule {
        cases: vec![(vec![(0, family), (2, protocol)], audit)],
        otherwise: Action::Allow,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
