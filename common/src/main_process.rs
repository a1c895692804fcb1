//! Which process is an app's main one, so that `enter` finds it and no other: written by `prepare-app`, which becomes
//! it, to the file `rkt/main/APP`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use procfs::process::Process;

/// A process of a pod. A pid alone may be another process's by now; with the time of its start it is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MainProcess {
    /// Its pid in the pod.
    pub pid: i32,
    /// When it started, in the kernel's ticks since the machine's start (proc_pid_stat(5), `starttime`).
    pub start: u64,
}

impl MainProcess {
    /// This process, as the proc file system at `proc` knows it.
    pub fn myself(proc: &Path) -> Result<Self> {
        Self::called(proc, "self")
    }

    /// The process that has this name in the proc file system at `proc`: its pid, or `self`.
    pub fn called(proc: &Path, name: &str) -> Result<Self> {
        let stat = Process::new_with_root(proc.join(name)).and_then(|process| process.stat());
        let stat = stat.with_context(|| format!("read {}/{name}/stat", proc.display()))?;
        Ok(MainProcess {
            pid: stat.pid,
            start: stat.starttime,
        })
    }

    /// Whether this is the process.
    pub fn is(&self, process: &Process) -> bool {
        process.stat().is_ok_and(|stat| {
            // A zombie runs nothing any more, but keeps its number.
            stat.starttime == self.start && !matches!(stat.state, 'Z' | 'X')
        })
    }
}

impl fmt::Display for MainProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

impl FromStr for MainProcess {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(' ').and_then(|(pid, start)| {
            Some(MainProcess {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })
        });
        numbers.with_context(|| format!("{text:?} is not a pid and the time of its start"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again() {
        let proc = Path::new("/proc");
        let own = MainProcess::myself(proc).unwrap();
        let process = Process::myself().unwrap();
        let read: MainProcess = own.to_string().parse().unwrap();
        assert!(read == own && read.is(&process));
        let later = MainProcess {
            start: own.start + 1,
            ..own
        };
        assert!(!later.is(&process));
        assert!("1".parse::<MainProcess>().is_err());
    }
}
