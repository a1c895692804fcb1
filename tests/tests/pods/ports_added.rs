//! Ports of the host that lead to apps which come to a running pod and go.

use std::fs;
use std::net::TcpListener;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::fixture::{App, Fixture, Machine, Sandbox, with};

use crate::ports::{address, with_port};
use crate::recorder::{self, calls, verbs};
use crate::talk::{ask, listening, probe};

tests::cases!("ports_added":
    lead_to_the_app_until_it_is_removed,
    go_with_the_pod,
    in_use_are_told_and_nothing_is_added,
    lead_to_sockets_that_are_activated,
    of_pods_without_plugins_are_told,
    are_undone_when_an_addition_fails,
    are_undone_when_an_addition_is_killed
    ; with users:
    lead_to_the_app_until_it_is_removed,
);

/// A pod whose files the test sees: overlays are mounted on the machine.
fn sandbox(fixture: &Fixture) -> Result<Sandbox<'_>> {
    fixture.sandbox(&["--net=default", "--no-overlay"])
}

/// An app that serves one client on a port called `web`.
fn server(name: &str, number: u16) -> App {
    let steps = format!("do serve tcp 0.0.0.0:{number} /out/{name}");
    with_port(probe(name, &steps), "tcp", number, false)
}

/// Asks the app, which has been started, and ends by that.
fn served(machine: &Machine, pod: &Sandbox<'_>, app: &str, port: &str) -> Result<()> {
    let heard = machine.within(|| ask(address(port), app))?;
    assert_eq!(heard, format!("heard {app} from 172.16.28.1"));
    pod.ended(app)?;
    Ok(())
}

/// Fails when a port of the machine is led anywhere, or is not.
fn is_led(machine: &Machine, port: u16, led: bool) -> Result<()> {
    let rules = machine.run("iptables-save")?;
    let found = rules.contains(&format!("--dport {port} "));
    ensure!(found == led, "port {port}: {rules}");
    Ok(())
}

/// The pod has no app, and no port of one, as far as stage0 knows.
fn is_empty(pod: &Sandbox<'_>) -> Result<()> {
    let manifest: Value = serde_json::from_slice(&fs::read(pod.dir().join("pod"))?)?;
    let empty = |field: &str| manifest[field].as_array().is_none_or(Vec::is_empty);
    ensure!(empty("apps") && empty("ports"), "{manifest}");
    Ok(())
}

/// Of several whose ports have the same name, too; and it may come again.
fn lead_to_the_app_until_it_is_removed() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let pod = sandbox(fixture)?;
        pod.run(&server("a", 80).option("--port=web:8080"))?;
        pod.run(&server("b", 81).option("--port=web:127.0.0.1:8081"))?;
        for (name, port) in [("a", "127.0.0.1:8080"), ("b", "127.0.0.1:8081")] {
            listening(&fixture.out(name), 1)?;
            served(machine, &pod, name, port)?;
        }
        pod.app("rm", "a", &[])?.expect(0)?;
        is_led(machine, 8080, false)?;
        is_led(machine, 8081, true)?;
        pod.app("rm", "b", &[])?.expect(0)?;
        is_empty(&pod)?;
        pod.run(&server("a", 80).option("--port=web:8080"))?;
        listening(&fixture.out("a"), 2)?;
        served(machine, &pod, "a", "127.0.0.1:8080")?;
        pod.app("rm", "a", &[])?.expect(0)?;
        is_led(machine, 8080, false)?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// With the app still in it.
fn go_with_the_pod() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let pod = sandbox(fixture)?;
        pod.add(&server("a", 80).option("--port=web:8080"))?
            .expect(0)?;
        is_led(machine, 8080, true)?;
        let uuid = pod.uuid.clone();
        pod.stop()?.expect(0)?;
        fixture.text(["rm", &uuid])?;
        is_led(machine, 8080, false)?;
        machine.is_clean()
    })
}

/// By a program of the host, by the same pod, and for another pod that starts.
fn in_use_are_told_and_nothing_is_added() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let pod = sandbox(fixture)?;
        let taken = machine.within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let number = taken.local_addr()?.port();
        let added = pod.add(&server("a", 80).option(format!("--port=web:{number}")))?;
        let named = format!("port web: tcp port {number} of the host cannot be had: Address");
        added.expect_refusal(&[&named])?;
        drop(taken);
        is_empty(&pod)?;

        pod.add(&server("a", 80).option("--port=web:8080"))?
            .expect(0)?;
        let leads = format!(
            "port web: tcp 127.0.0.1:8080 of the host leads to port web of pod {}",
            pod.uuid
        );
        let added = pod.add(&server("b", 81).option("--port=web:127.0.0.1:8080"))?;
        added.expect_refusal(&[&leads])?;
        let other = fixture.pod([server("c", 80)]).option("--net=default");
        let other = other.option("--port=web:127.0.0.1:8080").run()?;
        other.expect_refusal(&[&leads])?;
        let added = pod.add(&server("b", 81).option("--port=nothing:8082"))?;
        added.expect_refusal(&["ports[1].name", "nothing"])?;
        is_led(machine, 8082, false)?;
        // What is there still works.
        pod.app("start", "a", &[])?.expect(0)?;
        listening(&fixture.out("a"), 1)?;
        served(machine, &pod, "a", "127.0.0.1:8080")?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

fn lead_to_sockets_that_are_activated() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let pod = sandbox(fixture)?;
        let app = with_port(probe("a", "do answer 0"), "tcp", 80, true);
        pod.run(&app.option("--port=web:8080"))?;
        let heard = machine.within(|| ask(address("127.0.0.1:8080"), "hello"))?;
        assert_eq!(heard, "web [::]:80 heard hello");
        pod.ended("a")?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

fn of_pods_without_plugins_are_told() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox(&["--net=none"])?;
        let added = pod.add(&server("a", 80).option("--port=web:8080"))?;
        let added = added.expect(0)?;
        let told = "port 8080 of the host is not led to port web of an app: the pod has no network";
        ensure!(added.stderr.contains(told), "{added}");
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// By a plugin that fails, and then does not any more.
fn are_undone_when_an_addition_fails() -> Result<()> {
    with(|fixture| {
        let machine = recorder::machine(fixture)?;
        let pod = sandbox(fixture)?;
        pod.ready()?;
        machine.shell("cp /opt/cni/bin/failing /opt/cni/bin/portmap")?;
        let app = server("a", 80).option("--port=web:8080");
        let added = pod.add(&app)?;
        added.expect_refusal(&["network default: plugin portmap: ADD: no luck today"])?;
        is_empty(&pod)?;
        machine.shell("rm /opt/cni/bin/portmap && ! ls /run/stage1/ports | grep -- -")?;
        pod.run(&app)?;
        listening(&fixture.out("a"), 1)?;
        served(machine, &pod, "a", "127.0.0.1:8080")?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}

/// The plugin kills the entrypoint that calls it, and stage0 has the other one take back what was done.
fn are_undone_when_an_addition_is_killed() -> Result<()> {
    with(|fixture| {
        let machine = recorder::machine(fixture)?;
        let pod = sandbox(fixture)?;
        pod.ready()?;
        machine.shell("cp /opt/cni/bin/killing /opt/cni/bin/portmap")?;
        let app = server("a", 80).option("--port=web:8080");
        pod.add(&app)?.expect(254)?;
        assert_eq!(verbs(&calls(machine)?), ["DEL recorder eth0"]);
        is_empty(&pod)?;
        machine.shell("rm /opt/cni/bin/portmap && ! ls /run/stage1/ports | grep -- -")?;
        pod.run(&app)?;
        listening(&fixture.out("a"), 1)?;
        served(machine, &pod, "a", "127.0.0.1:8080")?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}
