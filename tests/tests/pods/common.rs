//! What several subjects need.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tests::fixture::{App, Fixture};
use tests::process::{BOUND, Running};

/// An app that is ready when `/out/ready` is there and ends well when told to stop.
pub(crate) fn server() -> App {
    App::probe(
        "server",
        [
            "do",
            "write",
            "/out/ready",
            "",
            "+",
            "until-term",
            "+",
            "write",
            "/out/stopped",
            "",
        ],
    )
}

pub(crate) fn start_server(fixture: &Fixture) -> Result<(String, Running)> {
    let started = fixture.pod([server()]).start_prepared(&[])?;
    tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
    Ok(started)
}

pub(crate) fn status(fixture: &Fixture, uuid: &str) -> Result<BTreeMap<String, String>> {
    let text = fixture.text(["status", uuid])?;
    text.lines()
        .map(|line| {
            line.split_once('=')
                .map(|(name, value)| (name.into(), value.into()))
                .context("a line without =")
        })
        .collect()
}
