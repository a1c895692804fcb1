//! Sockets that the caller of stage0 passes, as the manager of a service does (sd_listen_fds(3)), and its readiness.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::fixture::{App, Launch, with};
use tests::process::{BOUND, Running};

use crate::sockets::{listening, port};

tests::cases!("passed":
    sockets_are_given_to_the_apps_of_their_names,
    sockets_are_given_to_the_apps_of_their_numbers,
    what_is_no_socket_of_a_port_is_refused,
    a_pod_tells_its_caller_when_it_is_ready,
);

/// Passes on its standard input as the socket NAME to the rest of the command line, which takes its place.
const PASS: &str = "exec 3<&0 0</dev/null
export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=$0
exec \"$@\"";

/// The command, with the socket that it will get on its standard input passed.
fn passing(name: &str, command: &Command) -> Command {
    let mut passing = Command::new("sh");
    passing.args(["-c", PASS, name]).arg(command.get_program());
    passing.args(command.get_args());
    passing
}

fn start(pod: &Launch<'_>, name: &str, socket: impl Into<OwnedFd>) -> Result<Running> {
    let command = passing(name, &pod.command()?);
    Running::start(command, Stdio::from(socket.into()))
}

fn ask(address: SocketAddr, text: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("connect from the host")?;
    stream.set_read_timeout(Some(BOUND))?;
    writeln!(stream, "{text}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Next to one that systemd listens on in the pod, which stands before it; in a network in which nobody could reach it; and
/// when the app is started again as well.
fn sockets_are_given_to_the_apps_of_their_names() -> Result<()> {
    with(|fixture| {
        let passed = TcpListener::bind("127.0.0.1:0")?;
        let address = passed.local_addr()?;
        let steps = "do append /out/starts x + answer 1 + see --out /out/server.json";
        let server =
            App::probe("server", steps.split(' ')).option("--annotation=stage1/restart=always");
        let ports = [port("own", "tcp", 80, 1), port("web", "tcp", 81, 1)];
        let pod = fixture
            .pod([listening(server, &ports)])
            .option("--net=none");
        let running = start(&pod, "web", passed)?;
        for text in ["one", "two"] {
            let expected = format!("web {address} heard {text}");
            assert_eq!(ask(address, text)?, expected);
        }
        fixture.stage0(["stop", &fixture.only_pod()?])?.expect(0)?;
        running.finish()?.expect(0)?;
        let seen = fixture.seen("server")?;
        let names = "LISTEN_FDNAMES=own:web".to_owned();
        ensure!(seen.env.contains(&names), "{:?}", seen.env);
        Ok(())
    })
}

fn sockets_are_given_to_the_apps_of_their_numbers() -> Result<()> {
    with(|fixture| {
        let passed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = passed.local_addr()?;
        let server = App::probe("server", "do answer 0".split(' '));
        let server = listening(server, &[port("web", "tcp", 80, 1)]);
        let option = format!("--port=web:{}", address.port());
        let pod = fixture.pod([server]).option("--net=host").option(option);
        let running = start(&pod, "some.socket", passed)?;
        assert_eq!(ask(address, "hello")?, format!("web {address} heard hello"));
        running.finish()?.expect(0)?;
        Ok(())
    })
}

fn what_is_no_socket_of_a_port_is_refused() -> Result<()> {
    with(|fixture| {
        let refused = |name: &str, socket: OwnedFd, line: &str| -> Result<()> {
            let server = listening(App::probe("server", ["hang"]), &[port("web", "tcp", 80, 1)]);
            let pod = fixture.pod([server]);
            let finished = start(&pod, name, socket)?.finish()?.expect(254)?;
            ensure!(finished.stderr.contains(line), "no {line:?} in {finished}");
            Ok(())
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let line =
            format!("LISTEN_FDS: socket x (tcp {address}) has neither the name nor the number");
        let connection = TcpStream::connect(address)?;
        refused("x", listener.into(), &line)?;
        let descriptor = "init: LISTEN_FDS: descriptor 3 (web): is";
        let line = format!("{descriptor} a connection and does not listen");
        refused("web", connection.into(), &line)?;
        let line = format!("{descriptor} neither tcp nor udp");
        refused("web", UnixDatagram::unbound()?.into(), &line)?;
        let file = std::fs::File::open("/dev/null")?;
        refused("web", file.into(), &format!("{descriptor} no socket"))
    })
}

/// And not before: its app waits to be told.
fn a_pod_tells_its_caller_when_it_is_ready() -> Result<()> {
    with(|fixture| {
        let caller = UnixDatagram::bind(fixture.path("notify"))?;
        caller.set_read_timeout(Some(BOUND))?;
        let steps = "do see --out /out/app.json + wait-file /out/go + append /out/mark x + notify READY=1 + until-term";
        let app = App::probe("app", steps.split(' '))
            .change(|image| image.annotation("appc.io/executor/supports-systemd-notify", "true"));
        let mut command = fixture.pod([app]).command()?;
        command.env("NOTIFY_SOCKET", fixture.path("notify"));
        let running = Running::start(command, Stdio::null())?;
        std::fs::write(fixture.out("go"), "")?;
        told(&caller, "READY=1")?;
        ensure!(fixture.out("mark").exists(), "ready before its app");
        // stage0 has become the supervisor, so it is the main process of the service.
        running.signal(rustix::process::Signal::TERM)?;
        told(&caller, "STOPPING=1")?;
        running.finish()?.expect(0)?;
        let seen = fixture.seen("app")?;
        let socket = seen
            .env
            .iter()
            .find(|line| line.starts_with("NOTIFY_SOCKET="));
        assert_eq!(
            socket.map(String::as_str),
            Some("NOTIFY_SOCKET=/dev/notify")
        );
        Ok(())
    })
}

/// Waits for a message with this line.
fn told(caller: &UnixDatagram, line: &str) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = caller
            .recv(&mut message)
            .with_context(|| format!("wait for {line}"))?;
        let text = String::from_utf8_lossy(&message[..length]);
        if text.lines().any(|told| told == line) {
            return Ok(());
        }
    }
}
