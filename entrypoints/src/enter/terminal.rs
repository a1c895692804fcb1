//! A terminal in the pod in the place of the caller's.
//!
//! The process that enters makes it, in the pod, and hands its master side to the one that stays on the host: the
//! command never has a descriptor of the caller's terminal, to which it could push input (TIOCSTI).

use std::io::{IoSlice, IoSliceMut, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::termios::{Winsize, isatty, tcgetwinsize};

use crate::terminal::{Pair, make};

/// The side of the process that enters.
pub(super) struct Inside {
    socket: OwnedFd,
    size: Winsize,
}

/// The side of the process that stays.
pub(super) struct Outside {
    /// Readable when the terminal is there, or the process that enters has ended before.
    pub(super) socket: OwnedFd,
}

/// Both sides, when standard input is a terminal.
pub(super) fn pair() -> Result<Option<(Outside, Inside)>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let size = tcgetwinsize(stdin).context("read the size of the terminal")?;
    let (outside, inside) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("make a pair of sockets")?;
    let outside = Outside { socket: outside };
    let inside = Inside {
        socket: inside,
        size,
    };
    Ok(Some((outside, inside)))
}

impl Inside {
    /// Makes a terminal of `uid` in this process's mount namespace, and takes it for the controlling terminal and for
    /// those of the standard streams that are the caller's terminal.
    pub(super) fn take(self, uid: u32) -> Result<()> {
        let Pair { master, slave } = make(uid, self.size)?;
        self.send(&master)?;
        if isatty(rustix::stdio::stdin()) {
            rustix::stdio::dup2_stdin(&slave).context("make it standard input")?;
        }
        if isatty(rustix::stdio::stdout()) {
            rustix::stdio::dup2_stdout(&slave).context("make it standard output")?;
        }
        if isatty(rustix::stdio::stderr()) {
            rustix::stdio::dup2_stderr(&slave).context("make it standard error")?;
        }
        Ok(())
    }

    fn send(&self, master: &OwnedFd) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [master.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        // A message of descriptors alone is none: one byte goes along.
        let bytes = [IoSlice::new(&[0])];
        sendmsg(&self.socket, &bytes, &mut control, SendFlags::empty()).context("hand it over")?;
        Ok(())
    }
}

impl Outside {
    /// The master side of the terminal; `None` when the process that enters has ended before it was there.
    pub(super) fn receive(&self) -> Result<Option<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        recvmsg(
            &self.socket,
            &mut bytes,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .context("receive the terminal")?;
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok(descriptors.flatten().next())
    }
}
