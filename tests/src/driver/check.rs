//! Checking what the stage1 has written and does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::pod::Pod;

impl Pod {
    /// A file of the pod directory.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.dir().join(path);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Modification time of a file of the pod directory, in nanoseconds.
    pub fn mtime(&self, path: &str) -> Result<i128> {
        let path = self.dir().join(path);
        let meta =
            fs::symlink_metadata(&path).with_context(|| format!("stat {}", path.display()))?;
        Ok(i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()))
    }

    /// Statuses of all apps that have ended, read where an existing rkt reads them; each must be a decimal number.
    pub fn statuses(&self) -> Result<BTreeMap<String, i32>> {
        let dir = self.writable_root().join("rkt/status");
        let mut statuses = BTreeMap::new();
        for (app, _) in self.apps.borrow().iter() {
            let path = dir.join(app);
            if !path.exists() {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let digits = text.trim_end_matches('\n');
            let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(decimal, "{} holds {text:?}", path.display());
            statuses.insert(app.clone(), digits.parse()?);
        }
        Ok(statuses)
    }

    /// The JSON status of an app.
    pub fn json_status(&self, app: &str) -> Result<Value> {
        let path = self
            .writable_root()
            .join("rkt/status")
            .join(format!("{app}.json"));
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// The pod's cgroup directories, in each hierarchy that is mounted here.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let mut places = self.cgroup_places()?;
        places.retain(|dir| dir.exists());
        Ok(places)
    }

    /// Where the pod's cgroup is, was or could be in each hierarchy that is mounted here.
    pub fn cgroup_places(&self) -> Result<Vec<PathBuf>> {
        let path = self.read("subcgroup")?;
        ensure!(!path.ends_with('\n'), "subcgroup ends with a newline");
        let path = path.trim_start_matches('/');
        ensure!(!path.is_empty(), "subcgroup is the root");
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let hierarchies = mounts.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            fields[2]
                .starts_with("cgroup")
                .then(|| PathBuf::from(fields[1]))
        });
        Ok(hierarchies.map(|hierarchy| hierarchy.join(path)).collect())
    }

    /// The processes in the pod's cgroup and below it, in each hierarchy; none when it never came so far to have one.
    pub fn processes(&self) -> Result<Vec<String>> {
        if !self.dir().join("subcgroup").exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut dirs = self.cgroups()?;
        while let Some(dir) = dirs.pop() {
            // A cgroup may go away meanwhile.
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(procs.lines().map(str::to_owned));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
        }
        Ok(found)
    }

    /// Text files below the pod directory that mention a text, journals and lower layers aside.
    pub fn mentions(&self, text: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
                let path = entry?.path();
                let meta = fs::symlink_metadata(&path)?;
                if meta.is_dir()
                    && !path.ends_with("var/log/journal")
                    && !path.ends_with("work/work")
                {
                    dirs.push(path);
                } else if meta.is_symlink()
                    && fs::read_link(&path)?.to_string_lossy().contains(text)
                    || meta.is_file() && meta.len() < 1 << 20 && holds(&path, text)
                {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|content| String::from_utf8_lossy(&content).contains(text))
}
