//! Resource limits as the kernel keeps them in the files of a cgroup, on both versions: written for a pod, read back
//! for a pod and for an app.
//!
//! The limits of an app are set by the pod's systemd, which silently leaves out what it cannot set; that is why they are
//! read back. Limits of block devices are written here for apps too: systemd takes a device by the path of its node,
//! and in a pod there is none.

mod knob;
mod report;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::appc::isolator::{
    BLOCK_BANDWIDTH, BLOCK_IOPS, CPU, CPU_SHARES, MEMORY, OOM_SCORE_ADJ, PIDS_MAX,
};
use crate::cgroup::{Hierarchies, Hierarchy};
use crate::isolate::resource::Resources;
use crate::status::IsolatorReport;
use knob::{Knob, throttle};
use report::{Part, compare, report};

/// The kernel takes no quota below a millisecond, and none of a period above a second (cgroup-v2.rst, `cpu.max`).
const MIN_QUOTA: u64 = 1_000;
const MAX_PERIOD: u64 = 1_000_000;
const PERIOD: u64 = 100_000;

/// What v1 calls "no limit" of memory: the largest number of pages. Everything from here on is none.
const NO_MEMORY_LIMIT: u64 = 1 << 62;

/// A cgroup, and what is in its files.
#[derive(Debug)]
pub struct Limits<'a> {
    hierarchies: &'a Hierarchies,
    /// Its path from the root of every hierarchy; `None` is the one that this process is in, in each of them.
    path: Option<&'a Path>,
    /// The block device of the app's storage, `MAJOR:MINOR`.
    storage: Option<&'a str>,
}

impl<'a> Limits<'a> {
    /// The cgroup `path`.
    pub fn of_pod(hierarchies: &'a Hierarchies, path: &'a Path, storage: Option<&'a str>) -> Self {
        Limits {
            hierarchies,
            path: Some(path),
            storage,
        }
    }

    /// The cgroup that this process is in.
    pub fn own(hierarchies: &'a Hierarchies, storage: Option<&'a str>) -> Self {
        Limits {
            hierarchies,
            path: None,
            storage,
        }
    }

    /// Sets what is asked for as far as the host can. What came of it is for [`Limits::reports`] to tell.
    pub fn set(&self, resources: &Resources) {
        if let Some(milli) = resources.cpu_limit {
            let period = (MIN_QUOTA * 1_000)
                .div_ceil(milli)
                .clamp(PERIOD, MAX_PERIOD);
            let quota = (milli * period / 1_000).max(MIN_QUOTA);
            self.write("cpu", "cpu.cfs_period_us", None, &period.to_string());
            self.write("cpu", "cpu.cfs_quota_us", None, &quota.to_string());
            self.write("cpu", "", Some("cpu.max"), &format!("{quota} {period}"));
        }
        if let Some(weight) = resources.cpu_weight() {
            self.write("cpu", "", Some("cpu.weight"), &weight.to_string());
        }
        if let Some(limit) = resources.memory_limit {
            self.write(
                "memory",
                "memory.limit_in_bytes",
                Some("memory.max"),
                &limit.to_string(),
            );
            // The limit is one of memory: on v2 swap would come on top.
            self.write("memory", "", Some("memory.swap.max"), "0");
        }
        if let Some(request) = resources.memory_request {
            self.write("memory", "", Some("memory.low"), &request.to_string());
        }
        if let Some(max) = resources.pids_max {
            self.write("pids", "pids.max", Some("pids.max"), &max.to_string());
        }
        self.set_rest(resources);
    }

    /// Sets what systemd cannot be told: shares of v1 that are no weight of v2, and the limits of the block device that
    /// storage is on.
    pub fn set_rest(&self, resources: &Resources) {
        if let Some(shares) = resources.shares() {
            self.write("cpu", "cpu.shares", None, &shares.to_string());
        }
        let Some(device) = self.storage else { return };
        for (limit, unit) in [
            (resources.block_bandwidth, "bps"),
            (resources.block_iops, "iops"),
        ] {
            let Some(limit) = limit else { continue };
            for verb in ["read", "write"] {
                let file = throttle(verb, unit);
                self.write("blkio", &file, None, &format!("{device} {limit}"));
            }
            let line = format!("{device} r{unit}={limit} w{unit}={limit}");
            self.write("blkio", "", Some("io.max"), &line);
        }
    }

    /// What the kernel has of what is asked for, one report for each isolator.
    pub fn reports(&self, resources: &Resources) -> Vec<IsolatorReport> {
        let mut reports = Vec::new();
        let mut add = |name: &str, parts: Vec<Part>| {
            if !parts.is_empty() {
                reports.push(report(name, parts));
            }
        };
        let cpu = resources.cpu_limit.map(|milli| self.cpu_limit(milli));
        let shares = resources.shares().map(|_| self.cpu_shares(resources));
        if resources.cpu_shares.is_some() {
            add(CPU, cpu.into_iter().collect());
            add(CPU_SHARES, shares.into_iter().collect());
        } else {
            add(CPU, cpu.into_iter().chain(shares).collect());
        }
        let limit = resources.memory_limit.map(|limit| self.memory_limit(limit));
        let request = resources
            .memory_request
            .map(|request| self.memory_request(request));
        add(MEMORY, limit.into_iter().chain(request).collect());
        let pids = resources.pids_max.map(|max| {
            let knob = self.knob("pids", "pids.max", "pids.max");
            compare(knob.and_then(|k| k.number()), max, "processes")
        });
        add(PIDS_MAX, pids.into_iter().collect());
        for (name, unit, limit) in [
            (BLOCK_BANDWIDTH, "bps", resources.block_bandwidth),
            (BLOCK_IOPS, "iops", resources.block_iops),
        ] {
            add(
                name,
                limit
                    .map(|limit| self.block(unit, limit))
                    .into_iter()
                    .collect(),
            );
        }
        reports
    }

    fn cpu_limit(&self, milli: u64) -> Part {
        let quota = match self.knob("cpu", "cpu.cfs_quota_us", "cpu.max") {
            Some(knob) if knob.unified => knob.text().and_then(|text| {
                let (quota, period) = text.split_once(' ')?;
                Some((quota.parse().ok()?, period.parse().ok()?))
            }),
            Some(knob) => {
                let period = self.knob("cpu", "cpu.cfs_period_us", "");
                knob.number().zip(period.and_then(|k| k.number()))
            }
            None => None,
        };
        // To the nearest: the period of a small quota is not round.
        let found = quota.map(|(quota, period): (u64, u64)| (quota * 1_000 + period / 2) / period);
        compare(found, milli, "thousandths of a processor")
    }

    fn cpu_shares(&self, resources: &Resources) -> Part {
        let (Some(shares), Some(weight)) = (resources.shares(), resources.cpu_weight()) else {
            return Part::Exact;
        };
        match self.knob("cpu", "cpu.shares", "cpu.weight") {
            Some(knob) if knob.unified => match compare(knob.number(), weight, "as weight") {
                Part::Exact if weight * 1024 != shares * 100 => {
                    Part::Other(format!("the weight is {weight}"))
                }
                part => part,
            },
            Some(knob) => compare(knob.number(), shares, "shares"),
            None => Part::Lost("there is no controller cpu".into()),
        }
    }

    fn memory_limit(&self, limit: u64) -> Part {
        let knob = self.knob("memory", "memory.limit_in_bytes", "memory.max");
        let found = knob
            .and_then(|k| k.number())
            .filter(|n| *n < NO_MEMORY_LIMIT);
        compare(found, limit, "bytes")
    }

    fn memory_request(&self, request: u64) -> Part {
        match self.knob("memory", "", "memory.low") {
            Some(knob) if knob.unified => {
                compare(knob.number().filter(|n| *n > 0), request, "bytes protected")
            }
            _ => Part::Lost("the request is not protected, which takes cgroup v2".into()),
        }
    }

    fn block(&self, unit: &str, limit: u64) -> Part {
        let Some(device) = self.storage else {
            return Part::Lost("the storage is on no block device".into());
        };
        for verb in ["read", "write"] {
            let found = match self.knob("blkio", &throttle(verb, unit), "io.max") {
                Some(knob) => knob.of_device(device, &format!("{}{unit}", &verb[..1])),
                None => return Part::Lost("there is no controller for block devices".into()),
            };
            match compare(found, limit, unit) {
                Part::Exact => {}
                part => return part,
            }
        }
        Part::Exact
    }

    fn dir(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.dir(self.path.unwrap_or(&hierarchy.own))
    }

    /// The file of a controller, by its names on v1 and v2: v1 has it where the controller is in a v1 hierarchy.
    fn knob(&self, controller: &str, v1: &str, v2: &str) -> Option<Knob> {
        let of_v1 = |h: &&Hierarchy| h.controllers.iter().any(|c| c == controller);
        let hierarchies = &self.hierarchies.0;
        let (hierarchy, name) = match hierarchies.iter().find(of_v1) {
            Some(hierarchy) => (hierarchy, v1),
            None => (hierarchies.iter().find(|h| h.is_unified())?, v2),
        };
        let path = self.dir(hierarchy).join(name);
        (!name.is_empty() && path.exists()).then(|| Knob {
            path,
            unified: hierarchy.is_unified(),
        })
    }

    /// Writes the file of a controller where there is one.
    fn write(&self, controller: &str, v1: &str, v2: Option<&str>, content: &str) {
        if let Some(knob) = self.knob(controller, v1, v2.unwrap_or_default()) {
            // Whether the kernel has taken it is seen when it is read back.
            let _ = fs::write(knob.path, content);
        }
    }
}

/// What became of the OOM score of this process, whose `/proc` is at `proc`.
pub fn oom_score_report(proc: &Path, asked: i32) -> Result<IsolatorReport> {
    let path = proc.join("self/oom_score_adj");
    let found = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let part = if found.trim() == asked.to_string() {
        Part::Exact
    } else {
        // Lowering it takes CAP_SYS_RESOURCE on the host.
        Part::Other(format!(
            "{}, not {asked}: the host does not let it be lowered",
            found.trim()
        ))
    };
    Ok(report(OOM_SCORE_ADJ, vec![part]))
}

/// Which block device, as a whole, the file system of `dir` is on, `MAJOR:MINOR`; `sys` is where sysfs is.
pub fn storage(dir: &Path, sys: &Path) -> Option<String> {
    let device = rustix::fs::stat(dir).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let known = sys.join(format!("dev/block/{major}:{minor}"));
    // Limits are for whole disks: a partition lies in the directory of its own.
    let whole = match known.join("partition").exists() {
        true => fs::canonicalize(&known).ok()?.parent()?.to_owned(),
        false => known,
    };
    let numbers = fs::read_to_string(whole.join("dev")).ok()?;
    Some(numbers.trim().to_owned())
}
