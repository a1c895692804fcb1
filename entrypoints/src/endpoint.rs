//! Addresses of the sockets to which one attaches.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::net::SocketAddrUnix;

/// The address of the socket `name` in a directory. A socket's path is short (unix(7)), names of apps need not be; so the
/// directory goes by its descriptor, below which no link of the pod's leads elsewhere either.
pub(crate) fn address(dir: impl AsFd, name: &OsStr) -> Result<SocketAddrUnix> {
    let dir = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    SocketAddrUnix::new(Path::new(&dir).join(name)).context("address of a socket")
}
