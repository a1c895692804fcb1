//! Takes away what the pod has of an app: units, mounts, files, records of its users. Done again after it was killed, it
//! does what is left to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use common::apply::{beside, write_whole};
use common::pod::{StageRoot, names_in};
use common::spec::{self, AppSpec};
use common::unit::{app_unit, app_units};
use common::user::{Accounts, Identity};

use super::stop::stop_unit;
use super::strays;
use crate::gc::absent;
use crate::inside::{detach, turn_to_change};
use crate::manager::Manager;
use crate::start_report;

/// Where systemd keeps units without files of their own.
const TRANSIENT: &str = "/run/systemd/transient";

pub(super) fn forget(root: &StageRoot, app: &str, force: bool) -> Result<()> {
    let mut manager = Manager::connect()?;
    end(&mut manager, app, force)?;
    // Nobody starts it from here on. Who does has the turn until the start is over, which may be only now.
    let _turn = start_report::lock(app)?;
    end(&mut manager, app, force)?;
    let mut units = Vec::from(app_units(app));
    units.extend(entered(Path::new(TRANSIENT), app)?);
    for unit in &units {
        stop_unit(&mut manager, unit, true)?;
    }
    strays::kill(app, &root.app_root(app))?;
    // Nobody that this could wait for needs it.
    let _change = turn_to_change(root)?;
    let others: Vec<_> = spec::others(root, app)?.into_values().collect();
    unmount(root, app, &others)?;
    let mut files = vec![root.passwd(), root.group()];
    files.extend(root.app_files(app));
    // What was being written first: as long as the last file is there, there is something to do.
    let mut gone: Vec<_> = files.iter().filter_map(|file| beside(file)).collect();
    gone.extend(root.app_files(app));
    gone.extend(start_report::files(app));
    for file in &gone {
        absent(fs::remove_file(file)).with_context(|| format!("remove {}", file.display()))?;
    }
    for folder in [root.credentials(app), root.iottymux(app)] {
        absent(fs::remove_dir_all(&folder))
            .with_context(|| format!("remove {}", folder.display()))?;
    }
    remove_accounts(root, &others)?;
    manager.unload(&units)
}

/// Has the app not run, if that is wanted.
fn end(manager: &mut Manager, app: &str, force: bool) -> Result<()> {
    let unit = app_unit(app);
    ensure!(
        force || !manager.is_alive(&unit)?,
        "app {app} runs: stop it first, or use --force"
    );
    stop_unit(manager, &unit, force)
}

/// The scopes of what was run in the app while it did not run: `enter-APP-NUMBER.scope`.
fn entered(transient: &Path, app: &str) -> Result<Vec<String>> {
    let start = format!("enter-{app}-");
    let of_app = |unit: &String| {
        let number = unit
            .strip_prefix(&start)
            .and_then(|rest| rest.strip_suffix(".scope"));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    Ok(names_in(transient)?.into_iter().filter(of_app).collect())
}

/// Takes away the app's root and the volumes that no other app has.
fn unmount(root: &StageRoot, app: &str, others: &[AppSpec]) -> Result<()> {
    detach(&root.app_root(app))?;
    let mounts = others.iter().flat_map(|spec| &spec.mounts);
    let used: BTreeSet<_> = mounts.map(|mount| mount.volume.as_str()).collect();
    for volume in names_in(&root.volumes())? {
        if used.contains(volume.as_str()) {
            continue;
        }
        let path = root.volumes().join(&volume);
        detach(&path)?;
        let directory = path.is_dir();
        let removed = if directory {
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            // What a pod with a user namespace was started with is locked there (mount_namespaces(7)) and stays until its
            // end, with the mount points that nspawn has made.
            Err(err) if is_locked(&err) => {}
            removed => removed.with_context(|| format!("remove {}", path.display()))?,
        }
    }
    Ok(())
}

fn is_locked(err: &std::io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(err);
    matches!(
        errno,
        Some(rustix::io::Errno::BUSY | rustix::io::Errno::OVERFLOW)
    )
}

/// Removes the records of users and groups that no app is any more.
fn remove_accounts(root: &StageRoot, others: &[AppSpec]) -> Result<()> {
    let identity = |spec: &AppSpec| Identity {
        uid: spec.confinement.uid,
        gid: spec.confinement.gid,
        groups: spec.confinement.groups.clone(),
    };
    let identities: Vec<_> = others.iter().map(identity).collect();
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let (passwd, group) = (read(&root.passwd())?, read(&root.group())?);
    let left = Accounts::without_unused(&passwd, &group, &identities);
    for (path, before, after) in [
        (root.passwd(), passwd, left.passwd),
        (root.group(), group, left.group),
    ] {
        if before != after {
            write_whole(&path, after.as_bytes(), 0o644)
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_app_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "enter-a-1.scope",
            "enter-a-1-2.scope",
            "enter-a-b-3.scope",
            "x",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(entered(dir.path(), "a").unwrap(), ["enter-a-1.scope"]);
        assert_eq!(entered(dir.path(), "a-1").unwrap(), ["enter-a-1-2.scope"]);
    }
}
