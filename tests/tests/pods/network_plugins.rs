//! How plugins are called, with ones of the tests' own: what they are given, and what becomes of the pod when they fail.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, Machine, with};
use tests::process::BOUND;

tests::cases!("network_plugins":
    are_called_by_the_protocol,
    of_old_versions_get_no_answers_of_others,
    get_the_arguments_of_user_and_pod,
    failing_undoes_what_was_made,
    hanging_is_ended,
    spoilt_answers_are_told,
    missing_ones_are_told_before_anything_is_made,
    a_start_that_is_killed_is_undone,
    collect_what_no_pod_uses,
    deleting_is_tried_again,
    spoilt_configurations_name_file_and_field,
);

/// Notes how it is called, and answers with an address; it takes part in every version.
const RECORDER: &str = r#"#!/bin/sh
config=$(cat)
mkdir -p /run/calls
number=$(printf %03d $(ls /run/calls | wc -l))
echo "$CNI_COMMAND ${0##*/} $CNI_IFNAME $CNI_ARGS" >"/run/calls/$number.call"
echo "$config" >"/run/calls/$number.config"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) if [ -e /run/answer ]; then cat /run/answer; else echo '{"ips":[{"address":"10.5.0.2/24"}]}'; fi ;;
esac
"#;

/// Fails, by the protocol.
const FAILING: &str = r#"#!/bin/sh
[ "$CNI_COMMAND" = ADD ] || exit 0
echo "a word on stderr" >&2
echo '{"cniVersion":"1.0.0","code":100,"msg":"no luck today","details":"none at all"}'
exit 1
"#;

/// Its child hangs, too.
const HANGING: &str = "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\nsleep 1000\n";

/// Kills who calls it.
const KILLING: &str =
    "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exec /opt/cni/bin/recorder\nkill -KILL $PPID\n";

fn machine(fixture: &Fixture) -> Result<&Machine> {
    let machine = fixture.machine()?;
    for (name, content) in [
        ("recorder", RECORDER),
        ("second", RECORDER),
        ("failing", FAILING),
        ("hanging", HANGING),
        ("killing", KILLING),
    ] {
        machine.write(&format!("/opt/cni/bin/{name}"), 0o755, content)?;
    }
    Ok(machine)
}

/// A network; gives the option by which it is found.
fn network(fixture: &Fixture, file: &str, content: &Value) -> Result<String> {
    let dir = fixture.dir("config/net.d")?;
    fs::write(dir.join(file), content.to_string())?;
    Ok(format!(
        "--local-config={}",
        fixture.path("config").display()
    ))
}

fn plugins(name: &str, version: &str, programs: &[&str]) -> Value {
    let plugins: Vec<_> = programs
        .iter()
        .map(|p| json!({ "type": p, "of": p }))
        .collect();
    json!({ "cniVersion": version, "name": name, "plugins": plugins })
}

/// Runs a pod in a network of that list to its end, and removes it.
fn run(fixture: &Fixture, net: &str, config: &str) -> Result<()> {
    let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
    pod.option(net).option(config).run()?.expect(0)?;
    let uuid = fixture.only_pod()?;
    fixture.text(["rm", &uuid])?;
    Ok(())
}

/// What the recorders were called with: command, program and interface; and the configuration.
fn calls(machine: &Machine) -> Result<Vec<(String, Value)>> {
    let lines = machine.shell("cat /run/calls/*.call 2>/dev/null || true")?;
    let configs = machine.shell("cat /run/calls/*.config 2>/dev/null || true")?;
    let configs = serde_json::Deserializer::from_str(&configs).into_iter::<Value>();
    let configs = configs
        .collect::<Result<Vec<_>, _>>()
        .context("configurations")?;
    let lines = lines.lines().map(|line| line.trim_end().to_owned());
    Ok(lines.zip(configs).collect())
}

fn verbs(calls: &[(String, Value)]) -> Vec<&str> {
    calls.iter().map(|(call, _)| call.as_str()).collect()
}

fn without_answer(config: &Value) -> Value {
    let mut config = config.clone();
    config
        .as_object_mut()
        .map(|object| object.remove("prevResult"));
    config
}

fn are_called_by_the_protocol() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let list = plugins("list", "1.0.0", &["recorder", "second"]);
        let config = network(fixture, "10.conflist", &list)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let pod = pod.option("--debug").option("--net=list").option(&config);
        let finished = pod.run()?.expect(0)?;
        ensure!(
            finished.stderr.contains("network list eth0 10.5.0.2/24"),
            "{finished}"
        );
        let uuid = fixture.only_pod()?;
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        let expected = [
            "ADD recorder eth0",
            "ADD second eth0",
            "CHECK recorder eth0",
            "CHECK second eth0",
            "DEL second eth0",
            "DEL recorder eth0",
        ];
        assert_eq!(verbs(&calls), expected);
        let configs: Vec<_> = calls.iter().map(|(_, config)| config).collect();
        ensure!(configs[0].get("prevResult").is_none(), "{configs:?}");
        let answer = json!({ "ips": [{ "address": "10.5.0.2/24" }] });
        for (number, config) in configs.iter().enumerate() {
            assert_eq!(
                (&config["name"], &config["cniVersion"]),
                (&json!("list"), &json!("1.0.0"))
            );
            let first = [0, 2, 5].contains(&number);
            let added = configs[if first { 0 } else { 1 }];
            assert_eq!(without_answer(config), without_answer(added), "{number}");
            ensure!(
                number == 0 || config["prevResult"] == answer,
                "{number}: {config}"
            );
        }
        Ok(())
    })
}

fn of_old_versions_get_no_answers_of_others() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        machine.write(
            "/run/answer",
            0o644,
            r#"{"ip4":{"ip":"10.5.0.2/24","gateway":"10.5.0.1"}}"#,
        )?;
        // Without a version: 0.1.0.
        let single = json!({ "name": "old", "type": "recorder" });
        let config = network(fixture, "10.conf", &single)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        pod.option("--net=old").option(&config).run()?.expect(0)?;
        let uuid = fixture.only_pod()?;
        let status = fixture.text(["status", &uuid])?;
        ensure!(
            status.contains("networks=old:ip4=10.5.0.2 default-restricted:ip4="),
            "{status}"
        );
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        assert_eq!(verbs(&calls), ["ADD recorder eth0", "DEL recorder eth0"]);
        for (_, config) in calls {
            assert_eq!(
                config,
                json!({ "name": "old", "type": "recorder", "cniVersion": "0.1.0" })
            );
        }
        Ok(())
    })
}

fn get_the_arguments_of_user_and_pod() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let config = network(
            fixture,
            "10.conflist",
            &plugins("list", "0.3.1", &["recorder"]),
        )?;
        run(fixture, "--net=list:IP=10.5.0.9;X=y", &config)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        pod.option("--net=list:X=y")
            .option("--pod-annotation=io.kubernetes.pod.name=web-0")
            .option("--pod-annotation=io.kubernetes.pod.namespace=shop")
            .option(&config)
            .run()?
            .expect(0)?;
        let uuid = fixture.only_pod()?;
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        let of_pod = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={uuid};X=y"
        );
        let expected = [
            "ADD recorder eth0 IP=10.5.0.9;X=y".to_owned(),
            "DEL recorder eth0 IP=10.5.0.9;X=y".to_owned(),
            format!("ADD recorder eth0 {of_pod}"),
            format!("DEL recorder eth0 {of_pod}"),
        ];
        assert_eq!(verbs(&calls), expected);
        Ok(())
    })
}

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
        let parts = ["network bad: plugin hanging: ADD: has not ended within 5 s"];
        refused(fixture, &["hanging"], "--cni-timeout=5", &parts)
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

/// Of two pods in the network, one that runs: it is named, and the other is not.
fn collect_what_no_pod_uses() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let list = plugins("list", "1.1.0", &["recorder", "failing"]);
        // One that does not know the verb, nor says so in its own words.
        let list =
            json!({ "plugins": [list["plugins"][0]], "name": "list", "cniVersion": "1.1.0" });
        let config = network(fixture, "10.conflist", &list)?;
        let steps = "do write /out/up x + until-term".split(' ');
        let options = ["--net=list", config.as_str()];
        let (uuid, running) = fixture
            .pod([App::probe("a", steps)])
            .start_prepared(&options)?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let pod = fixture.pod([App::probe("b", ["exit", "0"])]);
        pod.option("--net=list").option(&config).run()?.expect(0)?;
        let pods = fixture.pods();
        let other = pods
            .iter()
            .find(|(_, other)| *other != uuid)
            .context("the other")?;
        fixture.text(["rm", &other.1])?;
        let calls = calls(machine)?;
        let last = calls.len() - 1;
        assert_eq!(
            verbs(&calls)[last - 2..],
            ["DEL recorder eth0", "VERSION recorder", "GC recorder"]
        );
        let valid = json!([{ "containerID": uuid, "ifname": "eth0" }]);
        assert_eq!(calls[last].1["cni.dev/valid-attachments"], valid);
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?;
        Ok(())
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
