//! Makes this process as confined as an app, in one order, for the app's own start and for `enter`.
//!
//! The order, and why it is so:
//! 1. the bounding set shrinks, while the right to shrink it (CAP_SETPCAP) is there;
//! 2. groups, then the user: the right to change groups goes with the user;
//! 3. the effective and permitted sets become what the app may have. Only CAP_SYS_ADMIN stays until the program is
//!    executed, when there is a filter to load: without it the kernel wants no_new_privs first (seccomp(2)), which
//!    would take setuid programs and file capabilities from an app that did not ask for it (rkt#3896). Executing the
//!    program takes it away: a user other than root has no capability after execve(2) but by file capabilities, and
//!    root has those of its bounding set;
//! 4. the context or profile of a security module for the program, then no_new_privs, each when asked for;
//! 5. the filter last, so that it meets no system call but the one that executes the program (rkt#3074).

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// The type of the proc file system, as statfs(2) gives it.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
use crate::isolate::capability;

/// What an app is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confinement {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary group ids.
    pub groups: Vec<u32>,
    /// The bounding set of capabilities, by name; `None` leaves it as it is.
    pub capabilities: Option<Vec<String>>,
    /// Whether programs gain no privileges by being executed.
    pub no_new_privileges: bool,
    /// Whether a system call filter is loaded.
    pub seccomp: bool,
    /// The SELinux context of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<String>,
    /// The AppArmor profile of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
}

impl Confinement {
    /// Bounds the capabilities by a set as `/proc/PID/status` has it (`CapBnd`): for a process that does not come from the
    /// pod's PID 1, which bounds all others of the pod.
    pub fn bound_by(&mut self, set: u64) -> Result<()> {
        let own = self.bounding()?;
        let bounded = caps::all().into_iter().filter(|capability| {
            let own = own.as_ref().is_none_or(|own| own.contains(capability));
            own && set & capability.bitmask() != 0
        });
        self.capabilities = Some(capability::names(&bounded.collect()));
        Ok(())
    }

    /// Takes on identity and capabilities: steps 1 to 3. Afterwards the process has the app's rights to files.
    pub fn take_identity(&self) -> Result<()> {
        if let Some(bounding) = self.bounding()? {
            let now = caps::read(None, CapSet::Bounding).context("read the bounding set")?;
            for capability in now.difference(&bounding) {
                caps::drop(None, CapSet::Bounding, *capability)
                    .with_context(|| format!("drop {capability} from the bounding set"))?;
            }
        }
        let groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups)
            .with_context(|| format!("set the supplementary groups {:?}", self.groups))?;
        let gid = Gid::from_raw(self.gid);
        setresgid(gid, gid, gid).with_context(|| format!("set the group {gid}"))?;
        rustix::thread::set_keep_capabilities(self.seccomp).context("keep capabilities")?;
        let uid = Uid::from_raw(self.uid);
        setresuid(uid, uid, uid).with_context(|| format!("set the user {uid}"))?;
        rustix::thread::set_keep_capabilities(false).context("keep capabilities no longer")?;
        self.reduce_capabilities()
    }

    /// Asks for the context or profile of the program that is executed next, step 4; the kernel checks the change when
    /// that happens. `proc` must be a proc file system that no app can put something in the place of.
    pub fn ask_for_label(&self, proc: &Path) -> Result<()> {
        let attributes = proc.join("thread-self/attr");
        if let Some(context) = &self.selinux {
            ask(&attributes.join("exec"), context)
                .with_context(|| format!("ask for the SELinux context {context}"))?;
        }
        if let Some(profile) = &self.apparmor {
            let request = format!("exec {profile}");
            // Before Linux 5.1 the only file is the one that all modules share.
            ask(&attributes.join("apparmor/exec"), &request)
                .or_else(|_| ask(&attributes.join("exec"), &request))
                .with_context(|| format!("ask for the AppArmor profile {profile}"))?;
        }
        Ok(())
    }

    /// Gives up for ever what is given up last, the rest of step 4 and step 5: the program is to be executed next.
    /// `filter` is the compiled program of the app's filter.
    pub fn seal(&self, filter: Option<&[u8]>) -> Result<()> {
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
        }
        match filter {
            Some(filter) => crate::sys::load_seccomp(filter).context("load the system call filter"),
            None => Ok(()),
        }
    }

    fn reduce_capabilities(&self) -> Result<()> {
        let mut keep = match self.uid {
            0 => caps::read(None, CapSet::Bounding).context("read the bounding set")?,
            _ => CapsHashSet::new(),
        };
        if self.seccomp {
            keep.insert(Capability::CAP_SYS_ADMIN);
        }
        let permitted = caps::read(None, CapSet::Permitted).context("read the permitted set")?;
        let keep: CapsHashSet = keep.intersection(&permitted).copied().collect();
        caps::clear(None, CapSet::Ambient).context("clear the ambient set")?;
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &keep).with_context(|| format!("set the {set:?} capabilities"))?;
        }
        caps::clear(None, CapSet::Inheritable).context("clear the inheritable set")
    }

    fn bounding(&self) -> Result<Option<CapsHashSet>> {
        let parse = |name: &String| {
            name.parse::<Capability>()
                .with_context(|| format!("capability {name:?}"))
        };
        self.capabilities
            .as_ref()
            .map(|names| names.iter().map(parse).collect())
            .transpose()
    }
}

/// Whether a file is on a proc file system.
pub fn is_proc(file: impl AsFd) -> std::io::Result<bool> {
    let magic = rustix::fs::fstatfs(file)?.f_type;
    Ok(u64::try_from(magic).is_ok_and(|magic| magic == PROC_SUPER_MAGIC))
}

/// Writes to a file of the proc file system at once, as the kernel wants it. Another file at that path, which a volume
/// could have brought there, would take the request and nothing would be confined.
fn ask(path: &Path, request: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    if !is_proc(&file)? {
        return Err(std::io::Error::other("not a file of the kernel's"));
    }
    std::io::Write::write_all(&mut file, request.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_bounds_its_apps() {
        let chown_and_kill = 1 | 1 << 5;
        let mut confinement = Confinement {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            capabilities: Some(vec!["CAP_KILL".into(), "CAP_SYS_ADMIN".into()]),
            no_new_privileges: false,
            seccomp: false,
            selinux: None,
            apparmor: None,
        };
        confinement.bound_by(chown_and_kill).unwrap();
        assert_eq!(confinement.capabilities, Some(vec!["CAP_KILL".to_owned()]));
        confinement.capabilities = None;
        confinement.bound_by(chown_and_kill).unwrap();
        let both = ["CAP_CHOWN", "CAP_KILL"].map(str::to_owned);
        assert_eq!(confinement.capabilities, Some(both.into()));
    }
}
