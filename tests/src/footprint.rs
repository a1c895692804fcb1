//! All that shows of a running pod, so that it can be compared: a change that fails must leave nothing of itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What there is of a pod, by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint(BTreeMap<String, String>);

/// What a pod writes by itself while it runs, below its directory.
const ITS_OWN: [&str; 5] = [
    "stage1/rootfs/var/log",
    "stage1/rootfs/var/lib",
    "stage1/rootfs/run",
    "stage1/rootfs/tmp",
    "stage1/rootfs/var/tmp",
];

impl Footprint {
    /// Looks at the pod in `dir`: files, mounts outside and inside, cgroups.
    pub fn of(dir: &Path) -> Result<Self> {
        let uuid = dir
            .file_name()
            .context("a pod directory")?
            .to_string_lossy()
            .into_owned();
        let mut found = BTreeMap::new();
        files(dir, "", &mut found)?;
        mounts("self", &uuid, &mut found)?;
        let ppid = fs::read_to_string(dir.join("ppid"))?;
        let ppid = ppid.trim();
        let children = fs::read_to_string(format!("/proc/{ppid}/task/{ppid}/children"))?;
        mounts(children.trim(), "", &mut found)?;
        let marks = crate::leftovers::Marks::new([uuid.as_str()], &[]);
        // systemd's own comes and goes with the device policies of units.
        let of_pod = |line: &String| line.starts_with("cgroup ") && !line.ends_with("/init.scope");
        found.extend(
            marks
                .found()
                .into_iter()
                .filter(of_pod)
                .map(|line| (line, String::new())),
        );
        Ok(Self(found))
    }

    /// Fails unless the other is the same, and says what differs.
    pub fn same(&self, other: &Self) -> Result<()> {
        let names = self.0.keys().chain(other.0.keys());
        let differ = names.filter(|name| self.0.get(*name) != other.0.get(*name));
        let lines: Vec<String> = differ
            .map(|name| {
                format!(
                    "{name}: {:?} became {:?}",
                    self.0.get(name),
                    other.0.get(name)
                )
            })
            .collect();
        ensure!(
            lines.is_empty(),
            "the pod has changed:\n{}",
            lines.join("\n")
        );
        Ok(())
    }
}

/// Types, owners, modes and contents of all that is below `dir/below`, on whatever file systems.
fn files(dir: &Path, below: &str, found: &mut BTreeMap<String, String>) -> Result<()> {
    let path = dir.join(below);
    let stat = path
        .symlink_metadata()
        .with_context(|| format!("stat {}", path.display()))?;
    let kind = stat.file_type();
    let content = match (kind.is_file(), kind.is_symlink()) {
        // What the image brings is large and nobody's to change.
        (true, _) if stat.len() < 1 << 16 => format!("{:?}", fs::read(&path)?),
        (true, _) => format!("{} bytes", stat.len()),
        (_, true) => format!("to {}", fs::read_link(&path)?.display()),
        _ => String::new(),
    };
    let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
    found.insert(
        format!("file {below}"),
        format!("{mode:o} {uid}:{gid} {content}"),
    );
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
fn mounts(process: &str, mark: &str, found: &mut BTreeMap<String, String>) -> Result<()> {
    let file = format!("/proc/{process}/mountinfo");
    let lines = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    for (number, line) in lines.lines().filter(|line| line.contains(mark)).enumerate() {
        found.insert(format!("mount of {process} {number} {line}"), String::new());
    }
    Ok(())
}
