//! Pods on hosts of other kinds than this machine, under QEMU: each test is called by the guest that it runs in. Some pod
//! tests run in every guest, in one boot of each; with a guest's name in STAGE1_GUEST, all of them in that one.

mod bench;
mod hosts;
mod kernel;
mod limits;
mod machines;
mod protection;
mod security;
mod services;
mod suite;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tests::harness::Case;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A guest has two processors, and emulates them with two of this machine's.
    arguments.test_threads.get_or_insert(2);
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("can't prepare the tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The pod tests in guests and the tests with a boot of their own; where a guest is asked for, those of that guest. What
/// boots a guest comes first, since the other tests of its boot wait for it.
fn trials(arguments: &Arguments) -> anyhow::Result<Vec<Trial>> {
    let only = std::env::var("STAGE1_GUEST").ok();
    let of_it = |case: &Case| {
        let guest = case.name().split_once("::").map(|(guest, _)| guest);
        only.is_none() || guest == only.as_deref()
    };
    let (first, others) = suite::trials(arguments, only.as_deref())?;
    let cases = cases().into_iter().filter(of_it).map(Case::trial);
    Ok(first.into_iter().chain(cases).chain(others).collect())
}

/// The tests with a boot of their own.
fn cases() -> Vec<Case> {
    let of_busybox = |name, body| Case::new("busybox-unified", name, body);
    let of_systemd = |name, body| Case::new("systemd-unified", name, body);
    vec![
        of_busybox("a_pod_runs", hosts::a_pod_runs_on_a_busybox_host),
        of_busybox(
            "a_kernel_panic_is_a_failure",
            hosts::a_kernel_panic_is_a_failure,
        ),
        of_busybox(
            "no_end_is_a_failure",
            hosts::a_guest_that_does_not_end_is_a_failure,
        ),
        of_busybox("limits_are_in_force", limits::limits_on_a_unified_host),
        of_busybox(
            "paths_are_protected",
            protection::paths_are_protected_unless_that_is_switched_off,
        ),
        of_busybox(
            "apparmor",
            security::apparmor_profiles_are_applied_or_refused,
        ),
        of_busybox("selinux", security::selinux_contexts_are_applied_or_refused),
        of_busybox(
            "pods_do_without_programs_for_devices",
            kernel::pods_do_without_programs_for_devices,
        ),
        Case::new(
            "busybox-legacy",
            "pods_do_without_overlays_and_a_whole_kill",
            kernel::pods_do_without_overlays_and_a_whole_kill,
        ),
        Case::new(
            "busybox-hybrid",
            "limits_are_in_force",
            limits::limits_on_a_hybrid_host,
        ),
        Case::new(
            "busybox-legacy",
            "limits_are_in_force",
            limits::limits_on_a_legacy_host,
        ),
        of_systemd("pods_run", hosts::pods_run_on_a_systemd_host),
        of_systemd("limits_are_in_force", limits::limits_on_a_systemd_host),
        of_systemd("machinectl", machines::machinectl_shows_and_ends_pods),
        of_systemd(
            "services",
            services::a_service_is_ready_when_its_pod_is_and_stops_it_in_order,
        ),
    ]
}
