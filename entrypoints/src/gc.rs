//! Frees what outlives the pod in the working directory: its cgroups, processes that are left in them, its networks, and what
//! nspawn, journald and machined of the host have been given. Nothing of it is an error when it is gone already.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::appc::Uuid;
use common::cgroup::Hierarchies;
use common::flags::{self, Flag, switch, value};
use common::pod::{PodDir, machine_name};

use crate::manager::host::forget_machine;
use crate::{network, print_help, supervisor, uuid};

const FLAGS: [Flag; 2] = [
    switch("debug", "accepted, for stage0s that pass it"),
    value(
        "local-config",
        "DIR",
        "folder of the local configuration (default /etc/rkt)",
    ),
];
const USAGE: &str = "gc [OPTIONS] UUID";
const ABOUT: &str = "Frees what outlives the exited pod in the working directory.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    let uuid = uuid(&flags.rest)?;
    let hierarchies = Hierarchies::read(Path::new("/proc"))?;
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
    // Plugins of a start that was killed are in the cgroup too.
    for cgroup in cgroups(&hierarchies, &uuid) {
        hierarchies.kill(&cgroup)?;
        hierarchies.remove(&cgroup)?;
    }
    let host = Path::new("/");
    free_host(host, &uuid)?;
    let dir = PodDir::new(".");
    let networks = network::undo(&dir)?;
    // What no pod uses harms none, nor what the host's services know: the pod itself is gone.
    let forgotten = forget_machine(host, &machine_name(uuid.as_str()));
    for err in [networks.collect(&dir), forgotten]
        .into_iter()
        .filter_map(Result::err)
    {
        eprintln!("gc: warning: {err:#}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The pod's cgroups: what its directory names, or what has the pod's name, where that file is spoilt.
fn cgroups(hierarchies: &Hierarchies, uuid: &Uuid) -> BTreeSet<PathBuf> {
    match supervisor::cgroup(&PodDir::new("."), uuid) {
        Ok(cgroup) => cgroup.into_iter().collect(),
        Err(err) => {
            eprintln!("gc: warning: {err:#}: looking for the pod's cgroups by their names");
            hierarchies.find(&supervisor::cgroup_names(uuid))
        }
    }
}

/// Removes what the host keeps of the pod outside of the pod directory.
fn free_host(host: &Path, uuid: &Uuid) -> Result<()> {
    let propagate = host
        .join("run/systemd/nspawn/propagate")
        .join(machine_name(uuid.as_str()));
    absent(fs::remove_dir(&propagate))
        .with_context(|| format!("remove {}", propagate.display()))?;
    // nspawn --link-journal=try-guest links the pod's journal by its machine id; a directory of that name is no link
    // of this pod.
    let journal = host.join("var/log/journal").join(uuid.digits());
    if journal.is_symlink() {
        absent(fs::remove_file(&journal))
            .with_context(|| format!("remove {}", journal.display()))?;
    }
    Ok(())
}

/// What is gone already is no error.
pub(crate) fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frees_the_hosts_records_of_this_pod_alone() {
        let host = tempfile::tempdir().unwrap();
        let uuid: Uuid = "6733c088-a507-4694-aabf-00ab64dc3b94".parse().unwrap();
        let propagate = host.path().join("run/systemd/nspawn/propagate");
        let journal = host.path().join("var/log/journal");
        fs::create_dir_all(propagate.join("rkt-6733c088-a507-4694-aabf-00ab64dc3b94")).unwrap();
        fs::create_dir_all(propagate.join("other")).unwrap();
        fs::create_dir_all(&journal).unwrap();
        std::os::unix::fs::symlink("/gone", journal.join(uuid.digits())).unwrap();
        for _ in 0..2 {
            free_host(host.path(), &uuid).unwrap();
        }
        assert!(!journal.join(uuid.digits()).is_symlink());
        assert_eq!(fs::read_dir(&propagate).unwrap().count(), 1);
    }
}
