//! Pods on hosts of other kinds than this machine, under QEMU: each test is called by the guest that it runs in. Some pod
//! tests run in every guest, in one boot of each; all of them with STAGE1_WHOLE=1 in two guests, as CI has it, and with a
//! guest's name in STAGE1_GUEST in that one.

mod apparmor;
mod bench;
mod callers;
mod hosts;
mod kernel;
mod limits;
mod machines;
mod protection;
mod security;
mod selinux;
mod services;
mod suite;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use tests::harness::ended;
use tests::vm::{Cgroups, Guest, Init};

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
fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    let only = std::env::var("STAGE1_GUEST").ok();
    let of_it = |(guest, ..): &Case| only.as_ref().is_none_or(|only| *only == guest.name());
    let whole = std::env::var_os("STAGE1_WHOLE").is_some_and(|value| value == "1");
    let (first, others) = suite::trials(arguments, only.as_deref(), whole)?;
    let cases = cases().into_iter().filter(of_it).map(trial);
    Ok(first.into_iter().chain(cases).chain(others).collect())
}

/// A test with a boot of its own: its guest, its name, what it does.
type Case = (Guest, &'static str, fn(Guest) -> Result<()>);

fn trial((guest, name, body): Case) -> Trial {
    Trial::ignorable_test(format!("{}::{name}", guest.name()), move || {
        ended(body(guest))
    })
}

fn cases() -> Vec<Case> {
    use Cgroups::{Hybrid, Legacy, Unified};
    let busybox = |cgroups| Guest::new(Init::Busybox, cgroups);
    let systemd = |cgroups| Guest::new(Init::Systemd, cgroups);
    let newer = Guest::new(Init::Systemd257, Unified);
    let mut cases: Vec<Case> = vec![
        (
            busybox(Unified),
            "a_pod_runs",
            hosts::a_pod_runs_on_a_busybox_host,
        ),
        (
            busybox(Unified),
            "a_kernel_panic_is_a_failure",
            hosts::a_kernel_panic_is_a_failure,
        ),
        (
            busybox(Unified),
            "no_end_is_a_failure",
            hosts::a_guest_that_does_not_end_is_a_failure,
        ),
        (
            busybox(Unified),
            "paths_are_protected",
            protection::paths_are_protected_unless_that_is_switched_off,
        ),
        (
            busybox(Unified),
            "apparmor",
            apparmor::profiles_are_applied_or_refused,
        ),
        (
            busybox(Unified),
            "selinux",
            selinux::contexts_are_applied_or_refused,
        ),
        (
            busybox(Unified),
            "pods_do_without_programs_for_devices",
            kernel::pods_do_without_programs_for_devices,
        ),
        (
            busybox(Unified),
            "limits_beside_the_caller",
            callers::limits_beside_the_caller_are_told_to_be_lost,
        ),
        (
            busybox(Legacy),
            "pods_do_without_overlays_and_a_whole_kill",
            kernel::pods_do_without_overlays_and_a_whole_kill,
        ),
    ];
    for guest in Guest::all() {
        cases.push((guest, "limits_are_in_force", limits::hold_on));
    }
    for cgroups in [Unified, Hybrid, Legacy] {
        cases.push((
            busybox(cgroups),
            "limits_below_a_control_group",
            callers::limits_hold_below_a_control_group,
        ));
    }
    for guest in [systemd(Unified), newer] {
        cases.push((guest, "pods_run", hosts::pods_run_on_a_systemd_host));
    }
    let machinectl = machines::machinectl_shows_and_ends_pods;
    for guest in [systemd(Unified), systemd(Hybrid), systemd(Legacy), newer] {
        cases.push((guest, "machinectl", machinectl));
    }
    for guest in [systemd(Hybrid), systemd(Legacy)] {
        cases.push((
            guest,
            "units_come_and_go",
            limits::pods_start_while_units_come_and_go,
        ));
        cases.push((guest, "devices_are_added", hosts::devices_can_be_added));
    }
    for guest in [systemd(Unified), systemd(Hybrid)] {
        cases.push((guest, "without_a_bus", callers::limits_hold_without_a_bus));
        cases.push((
            guest,
            "without_machined",
            callers::limits_hold_without_machined,
        ));
    }
    let service = services::a_service_is_ready_when_its_pod_is_and_stops_it_in_order;
    for guest in [systemd(Unified), systemd(Hybrid), systemd(Legacy), newer] {
        cases.push((guest, "services", service));
        cases.push((guest, "limits_in_a_service", limits::hold_in_a_service));
    }
    cases
}
