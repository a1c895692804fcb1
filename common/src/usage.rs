//! What an app of a running pod uses, as its cgroups count it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use procfs::process::Process;

use crate::cgroup::Hierarchies;
use crate::unit::app_unit;

/// Memory and processor time of an app; what the host does not count for it is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, the page cache of its files included.
    pub memory: Option<u64>,
    /// Processor time since its last start.
    pub cpu: Option<Duration>,
}

impl Usage {
    /// What the app uses of the pod whose cgroup is `pod`; `proc` is the proc file system.
    pub fn of_app(pod: &Path, app: &str, proc: &Path) -> Self {
        let Ok(hierarchies) = Hierarchies::read(proc) else {
            return Self::default();
        };
        let unit = app_unit(app);
        let mut usage = Self::default();
        for hierarchy in &hierarchies.0 {
            let Some(dir) = hierarchy.dir_of_unit(pod, &unit) else {
                continue;
            };
            let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
            let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
            let memory = number("memory.usage_in_bytes").or_else(|| number("memory.current"));
            usage.memory = usage.memory.or(memory);
            let micros = || stat(&read("cpu.stat")?, "usage_usec");
            let cpu = micros().map(Duration::from_micros);
            usage.cpu = usage.cpu.or(cpu);
        }
        // On v1 systemd makes no cgroup for counting unless told to, which every start of an app would take longer for.
        let processes = || hierarchies.processes_of_unit(pod, &unit);
        usage.cpu = usage.cpu.or_else(|| time_of(processes(), proc));
        usage
    }
}

/// The processor time of processes and of their children that have ended; `None` if there is no process.
fn time_of(pids: BTreeSet<i32>, proc: &Path) -> Option<Duration> {
    let of_one = |pid: i32| {
        let stat = Process::new_with_root(proc.join(pid.to_string()))
            .ok()?
            .stat()
            .ok()?;
        let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        Some(stat.utime + stat.stime + ended)
    };
    let ticks = pids.into_iter().filter_map(of_one).reduce(|a, b| a + b)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(ticks * 1_000 / per_second))
}

/// How many processes of the unit that this process is in were killed because the memory of its cgroup had run out.
pub fn oom_kills(hierarchies: &Hierarchies, unit: &str) -> u64 {
    let own = hierarchies.0.iter().filter(|h| h.own.ends_with(unit));
    let counts = own.filter_map(|hierarchy| {
        let dir = hierarchy.dir(&hierarchy.own);
        let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
        let content = read("memory.events").or_else(|| read("memory.oom_control"));
        stat(&content?, "oom_kill")
    });
    counts.max().unwrap_or(0)
}

/// A value of a file of `NAME VALUE` lines.
fn stat(content: &str, name: &str) -> Option<u64> {
    let mut fields = content.lines().filter_map(|line| line.split_once(' '));
    fields.find(|(key, _)| *key == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    #[test]
    fn kills_are_counted_where_the_unit_is() {
        let dir = tempfile::tempdir().unwrap();
        let own = |own: &str| {
            let path = dir.path().join(own);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("memory.oom_control"), "under_oom 0\noom_kill 2\n").unwrap();
            Hierarchies(vec![Hierarchy {
                mount_point: dir.path().into(),
                mounted: "/".into(),
                controllers: vec!["memory".into()],
                own: Path::new("/").join(own),
            }])
        };
        assert_eq!(oom_kills(&own("pod/app-a.service"), "app-a.service"), 2);
        assert_eq!(oom_kills(&own("pod"), "app-a.service"), 0);
    }

    #[test]
    fn own_time_is_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(time_of([own].into(), Path::new("/proc")).is_some());
        assert_eq!(time_of(BTreeSet::new(), Path::new("/proc")), None);
    }

    #[test]
    fn values_are_found_by_name() {
        let content = "usage_usec 12\nuser_usec 5\n";
        assert_eq!(stat(content, "usage_usec"), Some(12));
        assert_eq!(stat(content, "usage"), None);
    }
}
