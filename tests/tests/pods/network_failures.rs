//! What becomes of a pod, and of what was made for it, when plugins and configurations are bad.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, with};

use crate::recorder::{calls, machine, network, plugins, verbs};

tests::cases!("network_failures":
    failing_undoes_what_was_made,
    hanging_is_ended,
    spoilt_answers_are_told,
    missing_ones_are_told_before_anything_is_made,
    a_start_that_is_killed_is_undone,
    deleting_is_tried_again,
    spoilt_configurations_name_file_and_field,
);

/// Runs a pod in networks of which the second cannot be had, and looks that nothing is left.
fn refused(fixture: &Fixture, second: &[&str], option: &str, parts: &[&str]) -> Result<()> {
    let machine = machine(fixture)?;
    network(
        fixture,
        "10.conflist",
        &plugins("first", "1.0.0", &["recorder"]),
    )?;
    let config = network(fixture, "20.conflist", &plugins("bad", "1.0.0", second))?;
    let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
    let pod = pod.option("--net=default,first,bad").option(config);
    pod.option(option).run()?.expect_refusal(parts)?;
    ensure!(machine.leases("default")?.is_empty(), "a lease is left");
    machine.is_clean()
}

fn failing_undoes_what_was_made() -> Result<()> {
    with(|fixture| {
        let parts =
            ["network bad: plugin failing: ADD: no luck today: none at all: a word on stderr"];
        refused(fixture, &["second", "failing"], "--hostname=h", &parts)?;
        let machine = fixture.machine()?;
        let expected = [
            "ADD recorder eth1",
            "ADD second eth2",
            "DEL second eth2",
            "DEL recorder eth1",
        ];
        assert_eq!(verbs(&calls(machine)?), expected);
        Ok(())
    })
}

fn hanging_is_ended() -> Result<()> {
    with(|fixture| {
        // Those that do not hang have this time as well, on however busy a machine.
        let parts = ["network bad: plugin hanging: ADD: has not ended within 20 s"];
        refused(fixture, &["hanging"], "--cni-timeout=20", &parts)
    })
}

fn spoilt_answers_are_told() -> Result<()> {
    with(|fixture| {
        machine(fixture)?;
        for (answer, part) in [
            (
                "hello",
                "network list: plugin recorder: its answer \"hello\" is not JSON",
            ),
            (
                "",
                "network list: plugin recorder: its answer \"\" is not JSON",
            ),
            (
                r#"{"ips":[{"address":"10.5.0.2"}]}"#,
                "plugin recorder: unexpected answer: ips[0].address: ",
            ),
            ("[]", "plugin recorder: unexpected answer: "),
        ] {
            fixture.machine()?.write("/run/answer", 0o644, answer)?;
            let config = network(
                fixture,
                "10.conflist",
                &plugins("list", "1.0.0", &["recorder"]),
            )?;
            let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
            let finished = pod.option("--net=list").option(config).run()?;
            finished.expect_refusal(&[part])?;
            fixture.machine()?.is_clean()?;
        }
        Ok(())
    })
}

fn missing_ones_are_told_before_anything_is_made() -> Result<()> {
    with(|fixture| {
        let parts = [
            "network bad: plugin no-such-plugin is in none of /opt/cni/bin, /usr/lib/cni, ",
            "install Debian's containernetworking-plugins",
        ];
        refused(
            fixture,
            &["second", "no-such-plugin"],
            "--hostname=h",
            &parts,
        )?;
        ensure!(calls(fixture.machine()?)?.is_empty(), "a plugin was called");
        Ok(())
    })
}

/// The pod is one that has ended, and is removed as such.
fn a_start_that_is_killed_is_undone() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        network(
            fixture,
            "10.conflist",
            &plugins("first", "1.0.0", &["recorder"]),
        )?;
        let config = network(
            fixture,
            "20.conflist",
            &plugins("second", "1.0.0", &["second", "killing"]),
        )?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let pod = pod.option("--net=default,first,second").option(config);
        let finished = pod.run()?.expect(128 + 9)?;
        ensure!(!finished.stdout.contains("welcome"), "{finished}");
        ensure!(
            machine.leases("default")?.len() == 1,
            "a lease of the default network"
        );
        let uuid = fixture.only_pod()?;
        fixture.text(["rm", &uuid])?;
        let expected = [
            "ADD recorder eth1",
            "ADD second eth2",
            "DEL recorder eth2",
            "DEL second eth2",
            "DEL recorder eth1",
        ];
        let calls = calls(machine)?;
        assert_eq!(verbs(&calls), expected);
        ensure!(
            calls[3].1["prevResult"]["ips"][0]["address"] == "10.5.0.2/24",
            "{calls:?}"
        );
        machine.is_clean()
    })
}

/// A pod whose networks cannot be undone stays, and the next command does it.
fn deleting_is_tried_again() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let config = network(
            fixture,
            "10.conflist",
            &plugins("list", "1.0.0", &["recorder", "second"]),
        )?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        pod.option("--net=list").option(&config).run()?.expect(0)?;
        let uuid = fixture.only_pod()?;
        machine.shell("mv /opt/cni/bin/second /opt/cni/bin/away")?;
        let finished = fixture.stage0(["rm", &uuid])?;
        finished.expect_refusal(&["undo networks: network list: plugin second is in none of"])?;
        machine.shell("mv /opt/cni/bin/away /opt/cni/bin/second")?;
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        assert_eq!(
            verbs(&calls)[2..],
            ["DEL recorder eth0", "DEL second eth0", "DEL recorder eth0"]
        );
        Ok(())
    })
}

fn spoilt_configurations_name_file_and_field() -> Result<()> {
    with(|fixture| {
        let config = network(
            fixture,
            "10-bad.conflist",
            &json!({ "name": "x", "plugins": [{}] }),
        )?;
        for net in ["--net=x", "--net=all"] {
            let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
            let finished = pod.option(net).option(&config).run()?;
            finished.expect_refusal(&["net.d/10-bad.conflist: plugins[0]: type: must be given"])?;
        }
        Ok(())
    })
}
