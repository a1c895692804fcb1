//! The app's streams to which one can attach: made here, their other ends handed to `iottymux`.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use common::pod::StageRoot;
use common::spec::AppSpec;
use common::stream::{Mode, Served, Target};
use rustix::fs::{Gid, Uid, fchown};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::Winsize;

use crate::iottymux::SERVED;
use crate::terminal;

/// The size of a terminal before somebody attaches: that of the terminals from which all others come.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A connection to `iottymux`, which this starts when it does not run.
pub(super) struct Mux<'a> {
    connection: OwnedFd,
    streams: &'a Served,
}

/// Connects, if the app has streams for it. This is in the pod's root, which the app's does not lead to.
pub(super) fn connect_mux<'a>(root: &StageRoot, spec: &'a AppSpec) -> Result<Option<Mux<'a>>> {
    let Some(streams) = &spec.streams else {
        return Ok(None);
    };
    let path = root.mux_socket();
    let open = || -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(&path)?)?;
        Ok(socket)
    };
    let connection = open().with_context(|| format!("connect to {}", path.display()))?;
    Ok(Some(Mux {
        connection,
        streams,
    }))
}

/// The two ends of what was made for a stream.
struct Ends {
    target: Target,
    app: OwnedFd,
    mux: OwnedFd,
}

impl Mux<'_> {
    /// Makes the streams for the app of this user, in whose root this is, and has them be this process's when they are
    /// served.
    pub(super) fn take(self, app: &str, spec: &AppSpec) -> Result<()> {
        let identity = &spec.confinement;
        let targets = self.streams.targets().into_iter();
        let ends = targets.map(|target| make(target, identity.uid, identity.gid));
        let ends = ends.collect::<Result<Vec<_>>>()?;
        self.hand_over(app, &ends)?;
        for Ends { target, app, .. } in &ends {
            let modes = &self.streams.modes;
            let is =
                |of: Target, mode| *target == of || (*target == Target::Tty && mode == Mode::Tty);
            if is(Target::Stdin, modes.stdin) {
                dup2_stdin(app).context("make it standard input")?;
            }
            if is(Target::Stdout, modes.stdout) {
                dup2_stdout(app).context("make it standard output")?;
            }
            if is(Target::Stderr, modes.stderr) {
                dup2_stderr(app).context("make it standard error")?;
            }
        }
        Ok(())
    }

    fn hand_over(&self, app: &str, ends: &[Ends]) -> Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> = ends.iter().map(|ends| ends.mux.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let name = [IoSlice::new(app.as_bytes())];
        sendmsg(&self.connection, &name, &mut control, SendFlags::NOSIGNAL)
            .context("hand the streams over to iottymux")?;
        let mut answer = [0; 1024];
        let (length, _) =
            recv(&self.connection, &mut answer, RecvFlags::empty()).context("wait for iottymux")?;
        match &answer[..length] {
            SERVED => Ok(()),
            [] => bail!("iottymux has died"),
            why => bail!("iottymux: {}", String::from_utf8_lossy(why)),
        }
    }
}

/// Makes a pipe that the app can open anew, as it may do by `/dev/stdout`, or a terminal.
fn make(target: Target, uid: u32, gid: u32) -> Result<Ends> {
    if target == Target::Tty {
        let pair = terminal::make(uid, SIZE).context("make the app's terminal")?;
        return Ok(Ends {
            target,
            app: pair.slave,
            mux: pair.master,
        });
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    fchown(&reader, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .context("give a pipe to the app's user")?;
    let (app, mux) = match target {
        Target::Stdin => (reader, writer),
        _ => (writer, reader),
    };
    Ok(Ends { target, app, mux })
}
