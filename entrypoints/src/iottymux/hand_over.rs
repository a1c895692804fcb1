//! How the streams of an app come to this program: from prepare-app over a socket that PID 1 listens on, and, when this
//! program has died, from PID 1, which keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use common::appc::AcName;
use common::pod::StageRoot;
use common::spec::AppSpec;
use common::stream::{Served, Target};
use common::sys::inherited_fd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use super::run::Run;
use crate::notify;

/// The first descriptor that systemd passes (sd_listen_fds(3), `SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// What prepare-app is answered when its app's streams are served.
pub(crate) const SERVED: &[u8] = b"ok";

/// The longest message: the name of an app.
const MESSAGE_MAX: usize = 256;

/// What systemd passes to this program.
pub(super) struct Passed {
    /// Where prepare-app comes.
    pub(super) socket: OwnedFd,
    /// What was kept of the apps, by their names.
    pub(super) kept: BTreeMap<String, Vec<(String, OwnedFd)>>,
}

impl Passed {
    /// Takes it, as the environment tells (sd_listen_fds(3)).
    pub(super) fn take() -> Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").context("LISTEN_FDNAMES: must be set")?;
        let mut socket = None;
        let mut kept: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (number, name) in (FIRST..).zip(names.split(':')) {
            let descriptor =
                inherited_fd(number).with_context(|| format!("descriptor {number}"))?;
            match name.split_once('.') {
                Some((app, target)) if Target::ALL.iter().any(|t| t.name() == target) => {
                    let kept = kept.entry(app.to_owned()).or_default();
                    kept.push((target.to_owned(), descriptor));
                }
                _ => socket = Some(descriptor),
            }
        }
        common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
        let socket = socket.context("systemd has passed no socket")?;
        Ok(Passed { socket, kept })
    }
}

/// The streams of an app that this program is to serve.
fn served(root: &StageRoot, app: &str) -> Result<Served> {
    let path = root.spec(app);
    let context = || format!("read {}", path.display());
    let content = fs::read(&path).with_context(context)?;
    let spec: AppSpec = serde_json::from_slice(&content).with_context(context)?;
    let streams = spec.streams;
    streams.with_context(|| format!("app {app} has no streams to serve"))
}

/// Goes on with a run whose descriptors were kept.
pub(super) fn restore(
    root: &StageRoot,
    app: &str,
    mut kept: Vec<(String, OwnedFd)>,
) -> Result<Run> {
    let served = served(root, app)?;
    let mut descriptors = Vec::new();
    for target in served.targets() {
        let at = kept.iter().position(|(name, _)| name == target.name());
        let at = at.with_context(|| format!("its {} was not kept", target.name()))?;
        descriptors.push(kept.swap_remove(at).1);
    }
    Run::new(root, app, &served, descriptors)
}

/// Takes on the app that prepare-app tells of, and answers. `None` when nobody is there any more.
pub(super) fn receive(
    root: &StageRoot,
    from: &OwnedFd,
    replace: impl FnOnce(&str) -> Result<()>,
) -> Result<Option<Run>> {
    let mut message = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut message)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    );
    let length = received.context("receive the streams of an app")?.bytes;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
    if length == 0 {
        return Ok(None);
    }
    let take = || -> Result<Run> {
        let app = std::str::from_utf8(&message[..length]).context("name of an app")?;
        let app: AcName = app.parse().with_context(|| format!("{app:?}"))?;
        replace(app.as_str())?;
        take(root, app.as_str(), descriptors)
    };
    let taken = take();
    let answer = match &taken {
        Ok(_) => SERVED.to_vec(),
        Err(err) => format!("{err:#}").into_bytes(),
    };
    // An app whose start was ended meanwhile is not there to hear it.
    let _ = send(from, &answer, SendFlags::NOSIGNAL);
    taken.map(Some)
}

fn take(root: &StageRoot, app: &str, descriptors: Vec<OwnedFd>) -> Result<Run> {
    let served = served(root, app)?;
    let targets = served.targets();
    if targets.len() != descriptors.len() {
        bail!(
            "{} descriptors for {} streams",
            descriptors.len(),
            targets.len()
        );
    }
    for (target, descriptor) in targets.iter().zip(&descriptors) {
        notify::keep(&Run::stored_name(app, *target), descriptor.as_fd())?;
    }
    let run = Run::new(root, app, &served, descriptors)?;
    // Should this program be killed from now on, the streams are safe.
    notify::wait_until_read()?;
    ensure!(run.is_current(), "the app has ended");
    Ok(run)
}
