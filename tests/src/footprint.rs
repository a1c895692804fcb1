//! All that shows of a running pod, so that it can be compared: a change that fails must leave nothing of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::units::{self, Units};

/// What there is of a pod, by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    found: BTreeMap<String, Vec<u8>>,
    units: Units,
}

/// What a pod writes by itself while it runs, below its directory.
const ITS_OWN: [&str; 5] = [
    "stage1/rootfs/var/log",
    "stage1/rootfs/var/lib",
    "stage1/rootfs/run",
    "stage1/rootfs/tmp",
    "stage1/rootfs/var/tmp",
];

impl Footprint {
    /// Looks at the pod in `dir`: files, mounts outside and inside, cgroups, units.
    pub fn of(dir: &Path) -> Result<Self> {
        let uuid = dir
            .file_name()
            .context("a pod directory")?
            .to_string_lossy()
            .into_owned();
        let mut found = BTreeMap::new();
        files(dir, "", &mut found)?;
        mounts("self", &uuid, &mut found)?;
        let init = pid_one(dir)?;
        mounts(&init.to_string(), "", &mut found)?;
        let marks = crate::leftovers::Marks::new([uuid.as_str()], &[]);
        // systemd's own comes and goes with the device policies of units.
        let cgroups = marks.cgroups().into_iter();
        let of_pod = cgroups.filter(|cgroup| !cgroup.ends_with("init.scope"));
        found.extend(of_pod.map(|cgroup| (format!("cgroup {}", cgroup.display()), Vec::new())));
        Ok(Self {
            found,
            units: units::settled(init)?,
        })
    }

    /// Fails unless the pod in `dir` is the same, and says what differs. Units are waited for.
    pub fn expect_in(&self, dir: &Path) -> Result<()> {
        let now = Self::of(dir)?;
        let differ = self.differences(&now);
        ensure!(
            differ.is_empty(),
            "the pod has changed:\n{}",
            differ.join("\n")
        );
        if now.units == self.units {
            return Ok(());
        }
        units::expect(pid_one(dir)?, &self.units)
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.found.keys().chain(other.found.keys()).collect();
        let value = |footprint: &Self, name: &str| match footprint.found.get(name) {
            Some(value) => format!("\"{}\"", value.escape_ascii()),
            None => "nothing".to_owned(),
        };
        names
            .into_iter()
            .filter(|name| self.found.get(*name) != other.found.get(*name))
            .map(|name| {
                format!(
                    "{name}: {} became {}",
                    value(self, name),
                    value(other, name)
                )
            })
            .collect()
    }
}

/// The pod's PID 1, which is its supervisor's only child.
fn pid_one(dir: &Path) -> Result<i32> {
    let ppid = fs::read_to_string(dir.join("ppid"))?;
    let ppid = ppid.trim();
    let children = fs::read_to_string(format!("/proc/{ppid}/task/{ppid}/children"))?;
    children.trim().parse().context("the pod's PID 1")
}

/// Types, owners, modes and contents of all that is below `dir/below`, on whatever file systems.
fn files(dir: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let path = dir.join(below);
    let stat = path
        .symlink_metadata()
        .with_context(|| format!("stat {}", path.display()))?;
    let kind = stat.file_type();
    let content = match (kind.is_file(), kind.is_symlink()) {
        // What the image brings is large and nobody's to change.
        (true, _) if stat.len() < 1 << 16 => fs::read(&path)?,
        (true, _) => format!("{} bytes", stat.len()).into_bytes(),
        (_, true) => format!("to {}", fs::read_link(&path)?.display()).into_bytes(),
        _ => Vec::new(),
    };
    let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
    let mut value = format!("{mode:o} {uid}:{gid} ").into_bytes();
    value.extend(content);
    found.insert(format!("file {below}"), value);
    // Layers are looked at through their overlays.
    let layers = below.starts_with("overlay/") && below.split('/').count() > 2;
    if !kind.is_dir() || layers || ITS_OWN.contains(&below) {
        return Ok(());
    }
    for entry in fs::read_dir(&path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let inner = match below {
            "" => name,
            _ => format!("{below}/{name}"),
        };
        files(dir, &inner, found)?;
    }
    Ok(())
}

/// Mounts of a process whose lines have a mark; ids and orders are the kernel's.
fn mounts(process: &str, mark: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let file = format!("/proc/{process}/mountinfo");
    let lines = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    for (number, line) in lines.lines().filter(|line| line.contains(mark)).enumerate() {
        found.insert(format!("mount of {process} {number} {line}"), Vec::new());
    }
    Ok(())
}
