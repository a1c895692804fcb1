//! What becomes of an app's isolators: looked up in the kernel once the app's cgroup is there, because systemd leaves out
//! without a word what it cannot set.

use std::path::Path;

use anyhow::{Context, Result, bail};
use common::cgroup::Hierarchies;
use common::isolate::resource::Resources;
use common::limits::{Limits, oom_score_report};
use common::spec::AppSpec;
use common::status::{IsolatorReport, Outcome};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

/// A device that no app may have: the memory of the machine.
const FORBIDDEN: (u32, u32) = (1, 1);

/// Sets what is left to this program, and gives what became of each isolator.
pub(super) fn settle(app: &str, spec: &AppSpec) -> Result<Vec<IsolatorReport>> {
    let proc = Path::new("/proc");
    let mut found = Vec::new();
    if spec.resources != Resources::default() {
        let hierarchies = Hierarchies::read(proc)?;
        let limits = Limits::own(&hierarchies, spec.storage.as_deref());
        limits.set_rest(&spec.resources);
        found = limits.reports(&spec.resources);
    }
    if let Some(score) = spec.resources.oom_score_adj {
        found.push(oom_score_report(proc, score)?);
    }
    found.extend(devices(app)?);
    let mut reports = spec.isolators.clone();
    for report in IsolatorReport::correct(&mut reports, found) {
        eprintln!("prepare-app: warning: {report}");
    }
    Ok(reports)
}

/// Fails when an isolator is ignored and none may be.
pub(super) fn check(spec: &AppSpec, reports: &[IsolatorReport]) -> Result<()> {
    let mut ignored = reports.iter().filter(|r| r.outcome == Outcome::Ignored);
    match ignored.next() {
        Some(report) if spec.strict_isolators => bail!("{report} (--strict-isolators)"),
        _ => Ok(()),
    }
}

/// A report when the rules for devices are not in force. There is no file to read them from on cgroup v2, so it is tried.
fn devices(app: &str) -> Result<Option<IsolatorReport>> {
    let path = Path::new("/run").join(format!("device-of-{app}"));
    let (major, minor) = FORBIDDEN;
    let device = makedev(major, minor);
    match mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), device) {
        Ok(()) => {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            Ok(Some(IsolatorReport {
                name: "devices".into(),
                outcome: Outcome::Ignored,
                detail: Some("the kernel has no rules for its cgroup".into()),
            }))
        }
        Err(Errno::PERM | Errno::ACCESS) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("try to make a device at {}", path.display())),
    }
}
