//! The socket on which an app tells systemd that it is ready (sd_notify(3)).

use std::path::Path;

use anyhow::Result;
use common::env::Environment;
use common::root::Root;

use super::mounts::{attach, clone_tree};
use crate::notify::socket;

/// Where the app finds it: in its `/dev`, which is its own and over which no volume lies.
const PLACE: &str = "/dev/notify";

/// Shows the socket to the app.
pub(super) fn show(root: &Root) -> Result<()> {
    match socket() {
        Some(path) => attach(clone_tree(&path)?, root, Path::new(PLACE)),
        None => Ok(()),
    }
}

/// Tells the app of it.
pub(super) fn tell(environment: &mut Environment) {
    environment.set("NOTIFY_SOCKET", PLACE);
}
