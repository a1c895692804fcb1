//! Ports of the host that lead to apps.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Machine, with};
use tests::process::BOUND;

use crate::networks::{both_families, configure};
use crate::talk::{ask, listening, probe};

tests::cases!("ports":
    lead_to_apps_from_everywhere,
    of_the_pod_itself_and_of_another_one,
    of_both_families,
    of_datagrams,
    in_use_are_told_before_the_start,
    of_a_pod_that_has_ended_are_free,
    that_no_app_has_are_refused,
    lead_to_sockets_that_are_activated,
    below_1024_are_for_any_user_in_a_user_namespace
    ; with users:
    lead_to_sockets_that_are_activated,
);

/// An app with a port of that number.
pub(crate) fn with_port(app: App, protocol: &str, number: u16, activated: bool) -> App {
    let port = json!({
        "name": "web", "protocol": protocol, "port": number, "socketActivated": activated,
    });
    app.change(|image| image.app("ports", json!([port])))
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// From another machine, which is seen as itself, from the host's own address and from loopback.
fn lead_to_apps_from_everywhere() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let client = Machine::new()?;
        machine.cable(("up0", "10.9.0.1/24"), &client, ("up0", "10.9.0.2/24"))?;
        let serve = "serve tcp 0.0.0.0:80 /out/up";
        let server = probe("server", &format!("do {serve} + {serve} + {serve}"));
        let pod = fixture
            .pod([with_port(server, "tcp", 80, false)])
            .option("--port=web:8080")
            .option("--net=default");
        let running = pod.start()?;
        listening(&fixture.out("up"), 1)?;
        let heard = client.within(|| ask(address("10.9.0.1:8080"), "one"))?;
        assert_eq!(heard, "heard one from 10.9.0.2");
        listening(&fixture.out("up"), 2)?;
        let heard = machine.within(|| ask(address("10.9.0.1:8080"), "two"))?;
        ensure!(heard.starts_with("heard two from "), "{heard}");
        listening(&fixture.out("up"), 3)?;
        let heard = machine.within(|| ask(address("127.0.0.1:8080"), "three"))?;
        assert_eq!(heard, "heard three from 172.16.28.1");
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// A pod reaches itself at the host's port (hairpin), and so does another one.
fn of_the_pod_itself_and_of_another_one() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        machine.run("ip address add 10.9.0.1/32 dev lo")?;
        let serve = "serve tcp 0.0.0.0:80 /out/up";
        let server = probe("server", &format!("do {serve} + {serve}"));
        let pod = fixture.pod([with_port(server, "tcp", 80, false)]);
        let pod = pod.option("--port=web:8080").option("--net=default");
        let running = pod.start()?;
        listening(&fixture.out("up"), 1)?;
        let uuid = fixture.only_pod()?;
        let words = "/probe do ask tcp 10.9.0.1:8080 itself /out/mark";
        let words = ["enter", &uuid].into_iter().chain(words.split(' '));
        let heard = fixture.text(words)?;
        ensure!(heard.starts_with("heard itself from 172.16.28."), "{heard}");
        listening(&fixture.out("up"), 2)?;
        let client = probe("client", "do ask tcp 10.9.0.1:8080 another /out/mark");
        let finished = fixture.pod([client]).option("--net=default").run()?;
        let finished = finished.expect(0)?;
        let line = finished.console("client")[0].to_owned();
        ensure!(line.starts_with("heard another from 172.16.28."), "{line}");
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// From another machine, in a network that has both.
fn of_both_families() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let client = Machine::new()?;
        machine.cable(("up0", "10.9.0.1/24"), &client, ("up0", "10.9.0.2/24"))?;
        machine.cable(("up1", "fd00:9::1/64"), &client, ("up1", "fd00:9::2/64"))?;
        let config = configure(fixture, "both", "1.0.0", both_families())?;
        let serve = "serve tcp [::]:80 /out/up";
        let server = probe("server", &format!("do {serve} + {serve}"));
        let pod = fixture.pod([with_port(server, "tcp", 80, false)]);
        let pod = pod.option("--port=web:8080").option("--net=both");
        let running = pod.option(config).start()?;
        for (times, (to, from)) in [
            ("[fd00:9::1]:8080", "fd00:9::2"),
            ("10.9.0.1:8080", "10.9.0.2"),
        ]
        .into_iter()
        .enumerate()
        {
            listening(&fixture.out("up"), times + 1)?;
            let heard = client.within(|| ask(address(to), "hello"))?;
            assert_eq!(heard, format!("heard hello from {from}"));
        }
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn of_datagrams() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let server = with_port(
            probe("server", "do serve udp 0.0.0.0:53 /out/up"),
            "udp",
            53,
            false,
        );
        let pod = fixture.pod([server]).option("--port=web:127.0.0.1:5353");
        let running = pod.option("--net=default").start()?;
        listening(&fixture.out("up"), 1)?;
        let heard = machine.within(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(BOUND))?;
            socket.connect("127.0.0.1:5353")?;
            socket.send(b"hello")?;
            let mut answer = [0; 100];
            let len = socket.recv(&mut answer).context("an answer")?;
            Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
        })?;
        assert_eq!(heard, "heard hello from 172.16.28.1");
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// By a program of the host, and by another pod.
fn in_use_are_told_before_the_start() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let taken = machine.within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let number = taken.local_addr()?.port();
        let app = |steps: &str| with_port(probe("a", steps), "tcp", 80, false);
        let pod = fixture
            .pod([app("do exit 0")])
            .option(format!("--port=web:{number}"));
        let finished = pod.option("--net=default").run()?;
        let named = format!(
            "port web: tcp port {number} of the host cannot be had: Address already in use"
        );
        finished.expect_refusal(&[&named])?;
        drop(taken);

        let holder = fixture.pod([app("do write /out/up x + until-term")]);
        let (uuid, running) = holder
            .option("--port=web:8080")
            .start_prepared(&["--net=default"])?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let pod = fixture
            .pod([app("do exit 0")])
            .option("--port=web:10.9.0.1:8080");
        machine.run("ip address add 10.9.0.1/32 dev lo")?;
        let finished = pod.option("--net=default").run()?;
        finished.expect_refusal(&["port web: tcp 10.9.0.1:8080 of the host cannot be had"])?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?;
        Ok(())
    })
}

/// Before it is removed, too.
fn of_a_pod_that_has_ended_are_free() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        for name in ["first", "second"] {
            let server = probe(name, &format!("do serve tcp 0.0.0.0:80 /out/{name}"));
            let pod = fixture.pod([with_port(server, "tcp", 80, false)]);
            let pod = pod.option("--net=default").option("--port=web:8080");
            let running = pod.start()?;
            listening(&fixture.out(name), 1)?;
            let heard = machine.within(|| ask(address("127.0.0.1:8080"), name))?;
            assert_eq!(heard, format!("heard {name} from 172.16.28.1"));
            running.finish()?.expect(0)?;
        }
        Ok(())
    })
}

fn that_no_app_has_are_refused() -> Result<()> {
    with(|fixture| {
        fixture.machine()?;
        let app = with_port(probe("a", "do exit 0"), "tcp", 80, false);
        let pod = fixture.pod([app]).option("--net=default");
        let pod = pod
            .option("--port=web:8080")
            .option("--port=web:127.0.0.1:8080");
        pod.run()?
            .expect_refusal(&["8080 of the host leads to port web already"])?;
        Ok(())
    })
}

/// The app has its own number, to which the host's leads.
fn lead_to_sockets_that_are_activated() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let server = probe("server", "do write /out/up x + answer 0");
        let server = with_port(server, "tcp", 80, true);
        let pod = fixture.pod([server]).option("--port=web:8080");
        let running = pod.option("--net=default").start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let heard = machine.within(|| ask(address("127.0.0.1:8080"), "hello"))?;
        assert_eq!(heard, "web [::]:80 heard hello");
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// In a network that was made for it: in one of somebody else not even for root.
fn below_1024_are_for_any_user_in_a_user_namespace() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        machine.shell("ip netns add theirs && ip -n theirs link set lo up")?;
        let server = probe("server", "do serve tcp 0.0.0.0:80 /out/up").option("--user=alice");
        let pod = fixture.pod([with_port(server, "tcp", 80, false)]);
        let pod = pod.option("--private-users").option("--port=web:8080");
        let running = pod.option("--net=default").start()?;
        listening(&fixture.out("up"), 1)?;
        let heard = machine.within(|| ask(address("127.0.0.1:8080"), "hello"))?;
        assert_eq!(heard, "heard hello from 172.16.28.1");
        running.finish()?.expect(0)?;

        let root = probe("root", "do serve tcp 127.0.0.1:80 /out/not");
        let pod = fixture.pod([root]).option("--private-users");
        let finished = pod.option("--net-ns=/run/netns/theirs").run()?.expect(99)?;
        ensure!(finished.stdout.contains("Permission denied"), "{finished}");
        Ok(())
    })
}
