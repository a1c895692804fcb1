//! Sockets: those that the probe is given (sd_listen_fds(3)), and those of others.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, accept, getsockname, recv, recvfrom, send,
    sendto,
};
use nix::unistd::close;

use crate::process::BOUND;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// What the probe does with sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Talk {
    /// `answer N`: take a line on the Nth of the sockets that it was given, and send back `PORT ADDRESS heard LINE`, the
    /// name and the address being those of the socket.
    Answer(usize),
    /// `ask tcp|udp ADDRESS TEXT MARK`: send a line, append to the file MARK, and print what comes back.
    Ask(String, SocketAddr, String, PathBuf),
    /// `close N`: close the Nth of the sockets that it was given.
    Close(usize),
    /// `serve tcp|udp ADDRESS MARK`: listen there, append to the file MARK, take a line and send back `heard LINE from IP`.
    Serve(String, SocketAddr, PathBuf),
    /// `until-refused ADDRESS`: until nobody listens there (tcp).
    UntilRefused(SocketAddr),
}

impl Talk {
    pub(super) fn parse(words: &[&str]) -> Result<Option<Self>> {
        Ok(Some(match words {
            ["answer", number] => Self::Answer(number.parse().context("number of a socket")?),
            ["close", number] => Self::Close(number.parse().context("number of a socket")?),
            ["ask", protocol @ ("tcp" | "udp"), address, text, mark] => Self::Ask(
                (*protocol).into(),
                address.parse().context("address")?,
                (*text).into(),
                mark.into(),
            ),
            ["serve", protocol @ ("tcp" | "udp"), address, mark] => Self::Serve(
                (*protocol).into(),
                address.parse().context("address")?,
                mark.into(),
            ),
            ["until-refused", address] => Self::UntilRefused(address.parse().context("address")?),
            _ => return Ok(None),
        }))
    }

    /// Does it; the text is for stdout.
    pub(super) fn run(&self) -> Result<String> {
        match self {
            Self::Answer(number) => answer(*number),
            Self::Ask(protocol, address, text, mark) => {
                let said = || super::step::append(mark, "asked\n");
                match protocol.as_str() {
                    "tcp" => ask_tcp(*address, text, said),
                    _ => ask_udp(*address, text, said),
                }
            }
            Self::Close(number) => {
                let (name, fd) = passed(*number)?;
                close(fd)?;
                Ok(format!("{name} is closed here"))
            }
            Self::Serve(protocol, address, mark) => {
                let ready = || super::step::append(mark, "listening\n");
                match protocol.as_str() {
                    "tcp" => serve_tcp(*address, ready),
                    _ => serve_udp(*address, ready),
                }
            }
            Self::UntilRefused(address) => until_refused(*address),
        }
    }
}

/// The name and the descriptor of a socket that was passed.
fn passed(number: usize) -> Result<(String, RawFd)> {
    let variable = |name: &str| std::env::var(name).with_context(|| name.to_owned());
    ensure!(variable("LISTEN_PID")? == std::process::id().to_string());
    let names = variable("LISTEN_FDNAMES")?;
    let names: Vec<_> = names.split(':').collect();
    ensure!(variable("LISTEN_FDS")? == names.len().to_string());
    let name = names.get(number).context("there are fewer sockets")?;
    Ok(((*name).to_owned(), FIRST + RawFd::try_from(number)?))
}

fn answer(number: usize) -> Result<String> {
    let (name, fd) = passed(number)?;
    let address = getsockname(fd).map(|address: SockaddrIn6| address.to_string());
    let address = address.or_else(|_| getsockname(fd).map(|own: SockaddrIn| own.to_string()));
    let address = address.context("getsockname")?;
    let mut line = [0; 1000];
    let reply = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        format!("{name} {address} heard {}", line.trim_end())
    };
    // What has no connections to accept takes datagrams.
    let client = match accept(fd) {
        Err(Errno::EOPNOTSUPP) => {
            let (len, from) = recvfrom::<SockaddrStorage>(fd, &mut line).context("recvfrom")?;
            let from = from.context("a datagram from nobody")?;
            let text = reply(&line[..len]);
            sendto(fd, text.as_bytes(), &from, MsgFlags::empty())?;
            return Ok(text);
        }
        client => client.context("accept")?,
    };
    let len = recv(client, &mut line, MsgFlags::empty())?;
    let text = reply(&line[..len]);
    send(client, format!("{text}\n").as_bytes(), MsgFlags::empty())?;
    close(client)?;
    Ok(text)
}

fn serve_tcp(address: SocketAddr, ready: impl FnOnce() -> Result<()>) -> Result<String> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen at {address}"))?;
    ready()?;
    let (mut stream, client) = listener.accept()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let said = heard(line.trim_end(), client);
    writeln!(stream, "{said}")?;
    Ok(said)
}

fn serve_udp(address: SocketAddr, ready: impl FnOnce() -> Result<()>) -> Result<String> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listen at {address}"))?;
    ready()?;
    let mut line = [0; 1000];
    let (len, client) = socket.recv_from(&mut line)?;
    let said = heard(&String::from_utf8_lossy(&line[..len]), client);
    socket.send_to(said.as_bytes(), client)?;
    Ok(said)
}

fn heard(line: &str, client: SocketAddr) -> String {
    format!("heard {line} from {}", client.ip().to_canonical())
}

fn ask_tcp(address: SocketAddr, text: &str, said: impl FnOnce() -> Result<()>) -> Result<String> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    writeln!(stream, "{text}")?;
    said()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn ask_udp(address: SocketAddr, text: &str, said: impl FnOnce() -> Result<()>) -> Result<String> {
    let socket = UdpSocket::bind("[::]:0")?;
    socket.send_to(text.as_bytes(), address)?;
    said()?;
    let mut line = [0; 1000];
    let len = socket.recv(&mut line)?;
    Ok(String::from_utf8_lossy(&line[..len]).into_owned())
}

/// Nothing tells a client when a port is closed, so it is tried again and again.
fn until_refused(address: SocketAddr) -> Result<String> {
    let end = Instant::now() + BOUND;
    while Instant::now() < end {
        match TcpStream::connect(address) {
            Err(err) if err.kind() == ErrorKind::ConnectionRefused => {
                return Ok(format!("{address} is closed"));
            }
            // Who closes the port ends the connections in its queue.
            Err(err) if err.kind() != ErrorKind::ConnectionReset => return Err(err.into()),
            _ => std::thread::yield_now(),
        }
    }
    bail!("somebody listens at {address} still")
}
