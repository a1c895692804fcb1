//! Plugins of the tests' own: one that notes how it is called, and some that fail.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, Machine};

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

pub(crate) fn machine(fixture: &Fixture) -> Result<&Machine> {
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
pub(crate) fn network(fixture: &Fixture, file: &str, content: &Value) -> Result<String> {
    let dir = fixture.dir("config/net.d")?;
    fs::write(dir.join(file), content.to_string())?;
    Ok(format!(
        "--local-config={}",
        fixture.path("config").display()
    ))
}

pub(crate) fn plugins(name: &str, version: &str, programs: &[&str]) -> Value {
    let plugins: Vec<_> = programs
        .iter()
        .map(|p| json!({ "type": p, "of": p }))
        .collect();
    json!({ "cniVersion": version, "name": name, "plugins": plugins })
}

/// Runs a pod in a network of that list to its end, and removes it.
pub(crate) fn run(fixture: &Fixture, net: &str, config: &str) -> Result<()> {
    let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
    pod.option(net).option(config).run()?.expect(0)?;
    let uuid = fixture.only_pod()?;
    fixture.text(["rm", &uuid])?;
    Ok(())
}

/// What the recorders were called with: command, program and interface; and the configuration.
pub(crate) fn calls(machine: &Machine) -> Result<Vec<(String, Value)>> {
    let lines = machine.shell("cat /run/calls/*.call 2>/dev/null || true")?;
    let configs = machine.shell("cat /run/calls/*.config 2>/dev/null || true")?;
    let configs = serde_json::Deserializer::from_str(&configs).into_iter::<Value>();
    let configs = configs
        .collect::<Result<Vec<_>, _>>()
        .context("configurations")?;
    let lines = lines.lines().map(|line| line.trim_end().to_owned());
    Ok(lines.zip(configs).collect())
}

pub(crate) fn verbs(calls: &[(String, Value)]) -> Vec<&str> {
    calls.iter().map(|(call, _)| call.as_str()).collect()
}

pub(crate) fn without_answer(config: &Value) -> Value {
    let mut config = config.clone();
    config
        .as_object_mut()
        .map(|object| object.remove("prevResult"));
    config
}
