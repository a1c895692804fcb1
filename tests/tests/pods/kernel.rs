//! Kernels that lack what pods need: a filter that was loaded before stage0 hides it.

use anyhow::{Result, ensure};
use tests::fixture::{App, with};
use tests::harness::without;
use tests::process::run;

tests::cases!("kernel":
    a_missing_system_call_is_refused_by_name,
);

const NEEDED: [(&str, &str); 10] = [
    ("pidfd_send_signal", "5.1"),
    ("open_tree", "5.2"),
    ("move_mount", "5.2"),
    ("fsopen", "5.2"),
    ("fsconfig", "5.2"),
    ("fsmount", "5.2"),
    ("pidfd_open", "5.3"),
    ("openat2", "5.6"),
    ("close_range", "5.9"),
    ("mount_setattr", "5.12"),
];

/// Whatever the command: nothing is made that could not be removed.
fn a_missing_system_call_is_refused_by_name() -> Result<()> {
    with(|fixture| {
        let run_pod = fixture.pod([App::probe("app", ["exit", "0"])]).command()?;
        for (call, version) in NEEDED {
            let line = format!(
                "stage0: the system call {call} is missing: pods need Linux {version} or later, and no filter that hides it\n"
            );
            for command in [&run_pod, &fixture.command(["list"])] {
                let finished = run(without(call, command))?.expect(254)?;
                assert_eq!(finished.stderr, line);
            }
        }
        ensure!(fixture.pods().is_empty(), "{:?}", fixture.pods());
        Ok(())
    })
}
