//! What a process inherits and no manifest says: limits, scores and the like, taken over from the app's main process.

use std::fs;

use anyhow::{Context, Result, bail};
use procfs::process::{Limit, LimitValue, Process};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::manager::{Manager, Value};

/// The score by which the kernel chooses what to kill when memory is short.
const OOM_SCORE_ADJ: &str = "oom_score_adj";
/// Which memory a core dump has.
const COREDUMP_FILTER: &str = "coredump_filter";

/// How systemd calls the limits (systemd.exec(5), "Process Properties").
const NAMES: [(Resource, &str); 16] = [
    (Resource::Cpu, "CPU"),
    (Resource::Fsize, "FSIZE"),
    (Resource::Data, "DATA"),
    (Resource::Stack, "STACK"),
    (Resource::Core, "CORE"),
    (Resource::Rss, "RSS"),
    (Resource::Nproc, "NPROC"),
    (Resource::Nofile, "NOFILE"),
    (Resource::Memlock, "MEMLOCK"),
    (Resource::As, "AS"),
    (Resource::Locks, "LOCKS"),
    (Resource::Sigpending, "SIGPENDING"),
    (Resource::Msgqueue, "MSGQUEUE"),
    (Resource::Nice, "NICE"),
    (Resource::Rtprio, "RTPRIO"),
    (Resource::Rttime, "RTTIME"),
];

/// What a child of a process inherits.
pub(super) struct Likeness {
    limits: Vec<(Resource, Rlimit)>,
    /// Files of `/proc/PID` whose content can be written to that of another process.
    files: Vec<(&'static str, String)>,
    umask: u32,
    /// The label that a security module has on it.
    label: Option<String>,
}

impl Likeness {
    /// What a child of `process` would inherit.
    pub(super) fn read(process: &Process) -> Result<Self> {
        let file = |name: &str| {
            let file = process.open_relative(name).ok()?;
            std::io::read_to_string(file).ok()
        };
        let files = [OOM_SCORE_ADJ, COREDUMP_FILTER].into_iter();
        let status = process.status().context("read its status")?;
        Ok(Likeness {
            limits: limits(process).context("read its limits")?,
            files: files.filter_map(|name| Some((name, file(name)?))).collect(),
            umask: status.umask.context("the kernel does not tell its umask")?,
            label: file("attr/current").filter(|label| !label.trim().is_empty()),
        })
    }

    /// What the main process of a unit would inherit, as systemd has it of the unit: it need not run.
    pub(super) fn of_unit(manager: &mut Manager, unit: &str) -> Result<Self> {
        let mut number = |name: &str| match manager.get(unit, "Service", name)? {
            Value::Number(number) => Ok(number),
            Value::Unsigned(number) => Ok(number.into()),
            other => bail!("{name} of {unit}: {other:?} is not a number"),
        };
        let mut limits = Vec::new();
        for (resource, name) in NAMES {
            // The largest number is none (getrlimit(2), RLIM_INFINITY).
            let limit = |number| Some(number).filter(|number| *number != u64::MAX);
            let maximum = limit(number(&format!("Limit{name}"))?);
            let current = limit(number(&format!("Limit{name}Soft"))?);
            limits.push((resource, Rlimit { current, maximum }));
        }
        let umask = u32::try_from(number("UMask")?).context("UMask")?;
        let score = match manager.get(unit, "Service", "OOMScoreAdjust")? {
            Value::Signed(score) => score.to_string(),
            other => bail!("OOMScoreAdjust of {unit}: {other:?} is not a number"),
        };
        Ok(Likeness {
            limits,
            files: vec![(OOM_SCORE_ADJ, score)],
            umask,
            label: None,
        })
    }

    /// Has this process have it, and all that it becomes. What is the same already is left alone: to raise some of it
    /// takes rights that not every host's root has.
    pub(super) fn take(&self) -> Result<()> {
        for (resource, limit) in &self.limits {
            set_limit(*resource, *limit)
                .with_context(|| format!("set the limit {resource:?} of the app, {limit:?}"))?;
        }
        for (name, content) in &self.files {
            let path = format!("/proc/self/{name}");
            let own = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            if own.trim() != content.trim() {
                fs::write(&path, value(name, content))
                    .with_context(|| format!("write {content} to {path}"))?;
            }
        }
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        Ok(())
    }

    /// The label of a security module, when this process has another one.
    pub(super) fn label(&self) -> Option<&str> {
        let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        let label = self.label.as_deref()?;
        let plain = |label: &'_ str| label.trim_end_matches(['\0', '\n']).to_owned();
        (plain(label) != plain(&own)).then_some(label)
    }
}

/// Sets a limit. Where the host does not let it be raised, it is raised as far as that goes, as systemd does it for the
/// app itself.
fn set_limit(resource: Resource, limit: Rlimit) -> rustix::io::Result<()> {
    let own = getrlimit(resource);
    if own == limit {
        return Ok(());
    }
    match setrlimit(resource, limit) {
        Err(Errno::PERM) => setrlimit(resource, within(limit, own.maximum)),
        set => set,
    }
}

/// The limit with nothing in it above `highest`; `None` is no limit.
fn within(limit: Rlimit, highest: Option<u64>) -> Rlimit {
    let least = |number: Option<u64>| match (number, highest) {
        (Some(number), Some(highest)) => Some(number.min(highest)),
        (number, highest) => number.or(highest),
    };
    Rlimit {
        current: least(limit.current),
        maximum: least(limit.maximum),
    }
}

/// As the kernel takes it: the filter is shown in hexadecimal digits and read as any number.
fn value(name: &str, content: &str) -> String {
    match name {
        COREDUMP_FILTER => format!("0x{}", content.trim()),
        _ => content.trim().to_owned(),
    }
}

fn limits(process: &Process) -> Result<Vec<(Resource, Rlimit)>> {
    let limits = process.limits()?;
    let all = [
        (Resource::Cpu, limits.max_cpu_time),
        (Resource::Fsize, limits.max_file_size),
        (Resource::Data, limits.max_data_size),
        (Resource::Stack, limits.max_stack_size),
        (Resource::Core, limits.max_core_file_size),
        (Resource::Rss, limits.max_resident_set),
        (Resource::Nproc, limits.max_processes),
        (Resource::Nofile, limits.max_open_files),
        (Resource::Memlock, limits.max_locked_memory),
        (Resource::As, limits.max_address_space),
        (Resource::Locks, limits.max_file_locks),
        (Resource::Sigpending, limits.max_pending_signals),
        (Resource::Msgqueue, limits.max_msgqueue_size),
        (Resource::Nice, limits.max_nice_priority),
        (Resource::Rtprio, limits.max_realtime_priority),
        (Resource::Rttime, limits.max_realtime_timeout),
    ];
    Ok(all
        .map(|(resource, limit)| (resource, rlimit(limit)))
        .into())
}

fn rlimit(limit: Limit) -> Rlimit {
    let number = |value| match value {
        LimitValue::Unlimited => None,
        LimitValue::Value(number) => Some(number),
    };
    Rlimit {
        current: number(limit.soft_limit),
        maximum: number(limit.hard_limit),
    }
}
