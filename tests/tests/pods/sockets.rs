//! Socket activation: systemd listens, and the app is given its sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, with};
use tests::process::BOUND;

use crate::common::status;

tests::cases!("sockets":
    are_given_to_apps_of_any_user,
    listen_on_the_hosts_number,
    stay_open_while_the_app_starts_again,
    a_port_in_use_fails_the_app,
    a_port_of_another_app_is_refused;
    both ways:
    close_when_the_app_has_ended,
    are_the_apps_alone_when_it_is_to_stop,
);

pub(crate) fn port(name: &str, protocol: &str, number: u16, count: u16) -> Value {
    json!({ "name": name, "protocol": protocol, "port": number, "count": count, "socketActivated": true })
}

pub(crate) fn listening(app: App, ports: &[Value]) -> App {
    let ports = json!(ports);
    app.change(|image| image.app("ports", ports))
}

/// The clients have asked before the app starts: its pre-start handler waits for them.
fn are_given_to_apps_of_any_user() -> Result<()> {
    for user in ["root", "alice"] {
        with(|fixture| given(fixture, user))?;
    }
    Ok(())
}

fn given(fixture: &Fixture, user: &str) -> Result<()> {
    let steps = "do see --out /out/server.json + answer 0 + answer 1 + answer 2 + answer 3";
    let server = App::probe("server", steps.split(' ')).option(format!("--user={user}"));
    let ports = [
        port("web", "tcp", 80, 1),
        port("dns", "udp", 53, 1),
        port("range", "tcp", 5000, 2),
        json!({ "name": "other", "protocol": "tcp", "port": 80 }),
    ];
    let handler =
        "/probe do see --out /out/hook.json + wait-file /out/first + wait-file /out/second";
    let handler: Vec<_> = handler.split(' ').collect();
    let server = listening(server, &ports).change(|image| {
        let handler = json!({ "name": "pre-start", "exec": handler });
        image.app("eventHandlers", json!([handler]))
    });
    let client = |name: &str, steps: &str| App::probe(name, steps.split(' '));
    let first = "do ask udp [::1]:53 one /out/first + ask tcp 127.0.0.1:5001 two /out/first";
    let second = "do ask tcp [::1]:81 three /out/second + ask tcp 127.0.0.1:5000 four /out/second";
    let pod = fixture.pod([server, client("first", first), client("second", second)]);
    let finished = pod.option("--port=web:81").run()?.expect(0)?;
    let seen = fixture.seen("server")?;
    let variable = |name: &str| {
        let prefix = format!("{name}=");
        let mut variables = seen.env.iter();
        variables.find_map(|line| line.strip_prefix(prefix.as_str()))
    };
    assert_eq!(variable("LISTEN_FDNAMES"), Some("web:dns:range:range"));
    assert_eq!(variable("LISTEN_FDS"), Some("4"));
    assert_eq!(
        variable("LISTEN_PID"),
        Some(seen.ids["pid"].to_string()).as_deref()
    );
    let sockets = seen.fds.iter().filter(|(_, to)| to.starts_with("socket:"));
    let numbers: Vec<_> = sockets.map(|(fd, _)| *fd).filter(|fd| *fd > 2).collect();
    assert_eq!(numbers, [3, 4, 5, 6], "{:?}", seen.fds);
    let hook = fixture.seen("hook")?;
    ensure!(
        !hook.env.iter().any(|line| line.starts_with("LISTEN_")),
        "{:?}",
        hook.env
    );
    ensure!(hook.fds.keys().all(|fd| *fd <= 2), "{:?}", hook.fds);
    assert_eq!(
        finished.console("server"),
        [
            "web [::]:81 heard three",
            "dns [::]:53 heard one",
            "range [::]:5000 heard four",
            "range [::]:5001 heard two",
        ]
    );
    let first = ["dns [::]:53 heard one", "range [::]:5001 heard two"];
    assert_eq!(finished.console("first"), first);
    Ok(())
}

/// An address of this test alone, so that no other test can have its ports.
fn free_address() -> Result<SocketAddr> {
    let pid = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 101, pid[2], pid[3]);
    let listener = TcpListener::bind((address, 0))?;
    Ok(listener.local_addr()?)
}

fn listen_on_the_hosts_number() -> Result<()> {
    with(|fixture| {
        let address = free_address()?;
        let steps = "do print serving + answer 0 + until-term";
        let server = App::probe("server", steps.split(' '));
        let server = listening(server, &[port("web", "tcp", 80, 1)]);
        let pod = fixture
            .pod([server])
            .option(format!("--port=web:{address}"));
        let (uuid, running) = pod.start_prepared(&["--net=host"])?;
        running.wait_output("serving")?;
        let mut stream = TcpStream::connect(address).context("connect from the host")?;
        stream.set_read_timeout(Some(BOUND))?;
        writeln!(stream, "hello")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        assert_eq!(line, format!("web {address} heard hello\n"));
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        ensure!(TcpStream::connect(address).is_err(), "{address} is open");
        Ok(())
    })
}

/// And the next connection does not start it again.
fn close_when_the_app_has_ended() -> Result<()> {
    with(|fixture| {
        let server = App::probe("server", "do append /out/starts x + answer 0".split(' '));
        let server = listening(server, &[port("web", "tcp", 80, 1)]);
        let steps = "do ask tcp 127.0.0.1:80 hello /out/mark + until-refused 127.0.0.1:80";
        let client = App::probe("client", steps.split(' '));
        let finished = fixture.pod([server, client]).run()?.expect(0)?;
        assert_eq!(
            finished.console("client"),
            ["web [::]:80 heard hello", "127.0.0.1:80 is closed"]
        );
        assert_eq!(std::fs::read_to_string(fixture.out("starts"))?, "x");
        Ok(())
    })
}

/// Who connects between two runs is served by the later one.
fn stay_open_while_the_app_starts_again() -> Result<()> {
    with(|fixture| {
        let server = App::probe("server", "do notify READY=1 + answer 0".split(' '))
            .option("--annotation=stage1/restart=always")
            .option("--annotation=appc.io/executor/supports-systemd-notify=true");
        let server = listening(server, &[port("web", "tcp", 80, 1)]);
        let ask = |text: &str| format!("ask tcp 127.0.0.1:80 {text} /out/mark");
        let asks = ["one", "two", "three"].map(ask).join(" + ");
        let steps = format!("do {asks} + print served");
        let client = App::probe("client", steps.split(' '));
        let (uuid, running) = fixture.pod([server, client]).start_prepared(&[])?;
        running.wait_output("served")?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = running.finish()?.expect(0)?;
        let last = finished.console("client").into_iter().nth(2);
        assert_eq!(last, Some("web [::]:80 heard three"), "{finished}");
        Ok(())
    })
}

fn a_port_in_use_fails_the_app() -> Result<()> {
    with(|fixture| {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let address = taken.local_addr()?;
        let server = listening(App::probe("server", ["hang"]), &[port("web", "tcp", 80, 1)]);
        let pod = fixture.pod([server]).option("--net=host");
        let finished = pod.option(format!("--port=web:{address}")).run()?;
        let finished = finished.expect(254)?;
        let cause = format!("port web: listen on tcp {address}: Address already in use");
        ensure!(finished.stdout.contains(&cause), "{finished}");
        let status = status(fixture, &fixture.only_pod()?)?;
        assert_eq!(status["app-server"], "254");
        Ok(())
    })
}

/// An app that does no more new work after its stop signal turns clients away by closing its own copy.
fn are_the_apps_alone_when_it_is_to_stop() -> Result<()> {
    with(|fixture| {
        let steps = "do write /out/up x + until-term + close 0 + until-refused 127.0.0.1:80";
        let server = listening(
            App::probe("server", steps.split(' ')),
            &[port("web", "tcp", 80, 1)],
        );
        let running = fixture.pod([server]).start_apps()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        let finished = running.finish()?.expect(0)?;
        assert_eq!(
            finished.console("server"),
            [
                "got SIGTERM",
                "web is closed here",
                "127.0.0.1:80 is closed"
            ]
        );
        Ok(())
    })
}

/// An app that is added cannot have the port of one that is there, whether that runs or not.
fn a_port_of_another_app_is_refused() -> Result<()> {
    with(|fixture| {
        let pod = fixture.sandbox::<&str>(&[])?;
        let app = |name: &str, number: u16| {
            listening(App::probe(name, ["hang"]), &[port("web", "tcp", number, 2)])
        };
        pod.add(&app("one", 80))?.expect(0)?;
        for start in [false, true] {
            if start {
                pod.app("start", "one", &[])?.expect(0)?;
            }
            pod.add(&app("two", 81))?.expect_refusal(&[
                "app two: app.ports (web): tcp port 81 is that of port web of app one",
            ])?;
        }
        pod.run(&app("two", 82))?;
        pod.app("rm", "one", &["--force"])?.expect(0)?;
        pod.run(&app("three", 80))?;
        pod.stop()?.expect(0)?;
        Ok(())
    })
}
