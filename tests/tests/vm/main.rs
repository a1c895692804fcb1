//! Pods on hosts of other kinds than this machine, under QEMU: each test is called by the guest that it boots. With a
//! guest's name in STAGE1_GUEST, the pod tests run in it too, all in one boot.

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

/// The tests with a boot of their own, or where a guest is asked for, those and the pod tests of that guest.
fn trials(arguments: &Arguments) -> anyhow::Result<Vec<Trial>> {
    let Ok(only) = std::env::var("STAGE1_GUEST") else {
        return Ok(cases().into_iter().map(Case::trial).collect());
    };
    let of_it = |case: &Case| {
        case.name()
            .split_once("::")
            .is_some_and(|(guest, _)| guest == only)
    };
    let cases = cases().into_iter().filter(of_it).map(Case::trial);
    let suite = suite::trials(arguments, &only)?;
    Ok(cases.chain(suite).collect())
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
