//! System call filters: what the isolators ask for, and the compiled program of it.
//!
//! Filters are compiled where the pod is planned, with libseccomp, and loaded by `prepare-app` and `enter`, which need
//! no more than the program, as the last step before the app's program is executed.

mod calls;
mod compile;
mod program;
mod sets;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use caps::CapsHashSet;
use nix::errno::Errno;
use serde_json::Value;

use super::capability;
use crate::appc::Isolator;
use crate::appc::isolator::{SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET, isolator};

pub use compile::{Compiled, compile, compile_pod};

/// The set of everything (appc specification, "os/linux/seccomp-remove-set").
const ALL: &str = "@appc.io/all";

/// What a seccomp isolator asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Whether the set is what is left, or what is taken away.
    pub mode: Mode,
    /// The system calls, by name.
    pub names: BTreeSet<String>,
    /// Every system call, those without a name here too (`@appc.io/all`).
    pub all: bool,
    /// What a call that is not allowed fails with; `None` ends the process with SIGSYS.
    pub errno: Option<i32>,
}

/// How a set of system calls is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing else is allowed.
    Retain,
    /// Everything else is allowed.
    Remove,
}

/// The filter of a pod with these capabilities, its systemd included; `None` when it is the one that the image has
/// compiled.
pub fn of_pod(capabilities: &CapsHashSet) -> Option<Vec<u8>> {
    let of_image = capability::of_pod(&capability::DEFAULT.into());
    let calls = |capabilities: &CapsHashSet| sets::pod().allowed(capabilities);
    let same = calls(capabilities) == calls(&of_image);
    (!same).then(|| compile_pod(capabilities))
}

/// Reads the seccomp isolators; `None` when there is none, which means the default filter.
///
/// # Errors
/// Both isolators, an empty set, or a name that is unknown; the message names the isolator.
pub fn request(isolators: &[Isolator]) -> Result<Option<Request>> {
    let read = |name: &str, mode| {
        let found = isolator(isolators, name);
        found
            .map(|i| parse(&i.value, mode).with_context(|| name.to_owned()))
            .transpose()
    };
    match (
        read(SECCOMP_RETAIN_SET, Mode::Retain)?,
        read(SECCOMP_REMOVE_SET, Mode::Remove)?,
    ) {
        (Some(_), Some(_)) => bail!("{SECCOMP_RETAIN_SET}: excludes {SECCOMP_REMOVE_SET}"),
        (retain, remove) => Ok(retain.or(remove)),
    }
}

fn parse(value: &Value, mode: Mode) -> Result<Request> {
    let set = value
        .get("set")
        .and_then(Value::as_array)
        .context("set: must be a list of names")?;
    if set.is_empty() {
        bail!("set: must not be empty");
    }
    let mut names = BTreeSet::new();
    let mut all = false;
    for (i, name) in set.iter().enumerate() {
        let name = name
            .as_str()
            .with_context(|| format!("set[{i}]: {name} must be a name"))?;
        match sets::named(name) {
            _ if name == ALL => all = true,
            Some(set) => names.extend(set),
            None if name.starts_with('@') => bail!("set[{i}]: there is no set {name:?}"),
            // One that another version of libseccomp knows is for `compile` to tell of.
            None if compile::is_known(name) || sets::known().any(|known| known == name) => {
                names.insert(name.to_owned());
            }
            None => bail!(
                "set[{i}]: {name:?} is no system call that libseccomp knows{}",
                near(name, &mut sets::known())
            ),
        }
    }
    let errno = match value.get("errno") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if name.is_empty() => None,
        Some(Value::String(name)) => Some(errno(name)?),
        Some(other) => bail!("errno: {other} must be the name of an error"),
    };
    Ok(Request {
        mode,
        names,
        all,
        errno,
    })
}

/// The number of an error by its name (errno(3); all of POSIX.1-2001 and C99 are among them).
fn errno(name: &str) -> Result<i32> {
    // Names of one number that the list below has under the other name.
    let canonical = match name {
        "EWOULDBLOCK" => "EAGAIN",
        "ENOTSUP" => "EOPNOTSUPP",
        "EDEADLOCK" => "EDEADLK",
        name => name,
    };
    let known = (1..=133)
        .map(Errno::from_raw)
        .filter(|known| *known != Errno::UnknownErrno);
    let mut known = known.map(|known| (format!("{known:?}"), known as i32));
    let number = known
        .clone()
        .find(|(name, _)| name == canonical)
        .map(|(_, number)| number);
    number.with_context(|| {
        let near = near(name, &mut known.by_ref().map(|(name, _)| name));
        format!("errno: {name:?} is not the name of an error{near}")
    })
}

/// A question after names that may have been meant, or nothing.
fn near(name: &str, known: &mut dyn Iterator<Item = String>) -> String {
    let known: Vec<_> = known.collect();
    crate::alike::meant(name, known.iter().map(String::as_str), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(name: &str, value: Value) -> Result<Request, String> {
        let isolators: Vec<Isolator> =
            serde_json::from_value(json!([{"name": name, "value": value}])).unwrap();
        request(&isolators)
            .map(Option::unwrap)
            .map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn names_and_sets() {
        let retain = asked(
            SECCOMP_RETAIN_SET,
            json!({"set": ["read", "write"], "errno": "EPERM"}),
        )
        .unwrap();
        assert_eq!(
            (retain.mode, retain.names.len(), retain.errno),
            (Mode::Retain, 2, Some(1))
        );
        let set = |name: &str| {
            asked(SECCOMP_REMOVE_SET, json!({"set": [name]}))
                .unwrap()
                .names
        };
        assert!(set("@docker/default-whitelist").contains("clone3"));
        assert_eq!(
            set("@docker/default-whitelist"),
            set("@rkt/default-whitelist")
        );
        assert!(set("@rkt/default-blacklist").contains("kexec_load"));
        assert!(set("@systemd/mount").contains("mount"));
        // A group that has groups in it.
        assert!(set("@systemd/system-service").contains("openat2"));
        assert!(
            asked(SECCOMP_REMOVE_SET, json!({"set": ["@appc.io/all"]}))
                .unwrap()
                .all
        );
        assert!(set("@docker/default-blacklist").contains("io_uring_setup"));
        assert!(!set("@docker/default-blacklist").contains("socket"));
        assert!(set("@appc.io/empty").is_empty());
    }

    #[test]
    fn errors_name_the_isolator_and_the_place() {
        let error = |value| asked(SECCOMP_RETAIN_SET, value).unwrap_err();
        assert_eq!(
            error(json!({"set": []})),
            "os/linux/seccomp-retain-set: set: must not be empty"
        );
        assert_eq!(
            error(json!({})),
            "os/linux/seccomp-retain-set: set: must be a list of names"
        );
        assert_eq!(
            error(json!({"set": ["@x/y"]})),
            "os/linux/seccomp-retain-set: set[0]: there is no set \"@x/y\""
        );
        assert_eq!(
            error(json!({"set": ["read", "opennat"]})),
            "os/linux/seccomp-retain-set: set[1]: \"opennat\" is no system call that libseccomp knows; \
             is openat or openat2 or open meant?"
        );
        assert_eq!(
            error(json!({"set": ["read"], "errno": "EFOO"})),
            "os/linux/seccomp-retain-set: errno: \"EFOO\" is not the name of an error"
        );
        let near = error(json!({"set": ["read"], "errno": "ENOSY"}));
        assert!(near.contains("is ENOSYS or "), "{near}");
        assert!(error(json!({"set": ["read"], "errno": 1})).contains("errno: 1 must be the name"));
    }

    #[test]
    fn every_error_of_posix_2001_and_c99() {
        let posix = "E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADMSG EBUSY ECANCELED \
            ECHILD ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG \
            EHOSTUNREACH EIDRM EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMLINK EMSGSIZE \
            EMULTIHOP ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH ENFILE ENOBUFS ENODATA ENODEV ENOENT ENOEXEC ENOLCK \
            ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSR ENOSTR ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTSOCK ENOTSUP \
            ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE EROFS ESPIPE ESRCH \
            ESTALE ETIME ETIMEDOUT ETXTBSY EWOULDBLOCK EXDEV";
        for name in posix.split_whitespace() {
            assert!(errno(name).is_ok(), "{name}");
        }
        assert_eq!(errno("EPERM").unwrap(), 1);
        assert!(errno("UnknownErrno").is_err());
    }
}
