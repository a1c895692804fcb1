//! Callers in control groups of their own, and on hosts whose systemd has no D-Bus or no machined beside it.

use anyhow::{Result, ensure};
use tests::vm::{Guest, Status};

use super::bench::Bench;
use super::limits::hold_by;

/// Becomes a program in a control group two below the root of each hierarchy, as managers of containers make them.
const NESTED: &str = r#"
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -e $hierarchy/cgroup.procs ] || continue
    above=$hierarchy
    for group in $hierarchy/outer $hierarchy/outer/inner; do
        [ ! -e $above/cgroup.subtree_control ] ||
            sed 's/[^ ]*/+&/g' $above/cgroup.controllers >$above/cgroup.subtree_control || exit
        mkdir -p $group
        for file in cpuset.cpus cpuset.mems; do
            # In version 1 it begins with none.
            [ ! -e $group/tasks ] || [ ! -e $group/$file ] || cat $above/$file >$group/$file
        done
        above=$group
    done
    echo 0 >$group/cgroup.procs || exit
done
exec "$@"
"#;

pub(crate) fn limits_hold_below_a_control_group(guest: Guest) -> Result<()> {
    let command = "sh /payload/nested sh /payload/run";
    hold_by(guest, command, "/outer/inner/rkt-", |config| {
        config.text("nested", NESTED)
    })
}

/// Runs a pod with a limit from a shell that is in the same control group.
const BESIDE: &str = r#"
/payload/stage0 run "$@" example.com/app --memory=64M -- do print hello + exit 7
exit $?
"#;

pub(crate) fn limits_beside_the_caller_are_told_to_be_lost(guest: Guest) -> Result<()> {
    let report = Bench::new(guest)?.finish(|config| {
        config
            .text("nested", NESTED)
            .text("beside", BESIDE)
            .step("run", "sh /payload/nested sh /payload/beside")
            .step(
                "strict",
                "sh /payload/nested sh /payload/beside --strict-isolators",
            )
            .step("gc", "/payload/stage0 gc --grace-period=0s")
            .step("cgroups-left", "find /sys/fs/cgroup -name *rkt-*")
    })?;
    let output = report.expect("run", &Status::Exited(7))?;
    ensure!(
        output.contains("isolator resource/memory is ignored"),
        "{output}"
    );
    ensure!(output.contains("hello"), "{output}");
    let output = report.expect("strict", &Status::Exited(254))?;
    ensure!(output.contains("resource/memory"), "{output}");
    report.expect("gc", &Status::Exited(0))?;
    assert_eq!(report.expect("cgroups-left", &Status::Exited(0))?, "");
    Ok(())
}

/// Takes D-Bus away, as where it is not installed.
const NO_BUS: &str = "
systemctl stop dbus.socket dbus.service systemd-machined.service
rm -f /run/dbus/system_bus_socket
";

/// Takes machined away.
const NO_MACHINED: &str = "
systemctl stop systemd-machined.service
rm /usr/share/dbus-1/system-services/org.freedesktop.machine1.service
";

/// There is nobody to ask for a scope: the pod's control groups are below the caller's.
pub(crate) fn limits_hold_without_a_bus(guest: Guest) -> Result<()> {
    let delegated = "systemd-run --scope --quiet --property=Delegate=yes -- sh /payload/run";
    hold_without(guest, NO_BUS, delegated, "/system.slice/run-")
}

/// The scope is not named by machined.
pub(crate) fn limits_hold_without_machined(guest: Guest) -> Result<()> {
    let command = "systemd-run --scope --quiet -- sh /payload/run";
    hold_without(guest, NO_MACHINED, command, "/machine.slice/rkt-")
}

fn hold_without(guest: Guest, take_away: &str, command: &str, place: &str) -> Result<()> {
    hold_by(guest, command, place, |config| {
        config
            .text("take-away", take_away)
            .step("take-away", "sh -e /payload/take-away")
    })
}
