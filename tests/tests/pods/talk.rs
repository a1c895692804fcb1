//! Talk with pods over their networks.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fixture::{App, Fixture};
use tests::process::BOUND;

/// The networks of a pod, as `status` shows them to programs.
pub(crate) fn networks(fixture: &Fixture, uuid: &str) -> Result<Vec<Value>> {
    let json = fixture.text(["status", "--format=json", uuid])?;
    let status: Value = serde_json::from_str(&json)?;
    Ok(status["networks"].as_array().context("networks")?.clone())
}

pub(crate) fn address(network: &Value) -> Result<IpAddr> {
    Ok(network["ip"].as_str().context("ip")?.parse()?)
}

/// Sends a line and gives the line that comes back.
pub(crate) fn ask(address: SocketAddr, text: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, BOUND)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(BOUND))?;
    writeln!(stream, "{text}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A client, which must come in time.
pub(crate) fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    let end = Some(Instant::now() + BOUND);
    let come = tests::wait::readable(listener.as_fd(), end)?;
    ensure!(come, "nobody has come");
    Ok(listener.accept()?)
}

/// Waits until a server of the probe has been ready so many times.
pub(crate) fn listening(mark: &Path, times: usize) -> Result<()> {
    tests::wait::for_file(mark, Some(BOUND), |mark| {
        fs::read_to_string(mark).is_ok_and(|text| text.lines().count() >= times)
    })
}

pub(crate) fn probe(name: &str, steps: &str) -> App {
    App::probe(name, steps.split(' '))
}
