//! One run of an app: from the moment in which prepare-app hands its streams over until the app has closed them and
//! everybody has what was said.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use common::apply::write_whole;
use common::main_process::MainProcess;
use common::pod::StageRoot;
use common::stream::{Log, Served, Target};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, accept_with, bind, recv, socket_with,
};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use super::cri::CriLog;
use super::input::Input;
use super::journal_log::{ERR, JournalLog, OUT};
use super::output::Output;
use crate::gc::absent;
use crate::{endpoint, notify};

/// How many clients may wait to be taken on.
const BACKLOG: i32 = 128;

/// What a descriptor of a run is for, to be told when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A new client.
    Listener(usize),
    /// A new one who tells the terminal's size, and one who does.
    Sizes,
    Size(usize),
    /// The app says something.
    Source(usize),
    /// A reader of an output, by their numbers.
    Reader(usize, usize),
    /// The app takes input.
    Input,
    /// A client sends input.
    Typist(usize),
}

/// A run.
pub(super) struct Run {
    pub(super) app: String,
    listeners: Vec<(Target, OwnedFd)>,
    input: Option<Input>,
    outputs: Vec<(Target, Output)>,
    /// The terminal, who tells its size, and where they come.
    terminal: Option<Rc<OwnedFd>>,
    sizes: Vec<OwnedFd>,
    size_listener: Option<OwnedFd>,
    /// Whether its files are the app's: not after its end, nor when the app runs again.
    current: bool,
}

impl Run {
    /// Takes over the descriptors, one for each of the targets, and listens for clients.
    pub(super) fn new(
        root: &StageRoot,
        app: &str,
        served: &Served,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self> {
        let targets = served.targets();
        ensure!(
            targets.len() == descriptors.len(),
            "{} descriptors for {} streams",
            descriptors.len(),
            targets.len()
        );
        let mut run = Run {
            app: app.to_owned(),
            listeners: Vec::new(),
            input: None,
            outputs: Vec::new(),
            terminal: None,
            sizes: Vec::new(),
            size_listener: None,
            current: true,
        };
        for (target, descriptor) in targets.iter().zip(descriptors) {
            run.take(*target, descriptor)?;
        }
        run.log(root, served)?;
        run.listen(root, &served.endpoints())?;
        Ok(run)
    }

    fn take(&mut self, target: Target, descriptor: OwnedFd) -> Result<()> {
        let flags = fcntl_getfl(&descriptor)? | OFlags::NONBLOCK;
        fcntl_setfl(&descriptor, flags).context("have a stream not block")?;
        let descriptor = Rc::new(descriptor);
        match target {
            Target::Stdin => self.input = Some(Input::of_pipe(descriptor)),
            Target::Stdout | Target::Stderr => self.outputs.push((target, Output::new(descriptor))),
            Target::Tty => {
                self.input = Some(Input::of_terminal(descriptor.clone()));
                self.outputs.push((target, Output::new(descriptor.clone())));
                self.terminal = Some(descriptor);
            }
        }
        Ok(())
    }

    fn log(&mut self, root: &StageRoot, served: &Served) -> Result<()> {
        let process = fs::read_to_string(root.main_process(&self.app)).ok();
        let process = process.and_then(|text| text.parse::<MainProcess>().ok());
        let process = process.map(|process| process.pid);
        for (target, output) in &mut self.outputs {
            let is_error = *target == Target::Stderr;
            match served.log_of(*target) {
                None => {}
                Some(Log::Journal { uuid }) => {
                    let priority = if is_error { ERR } else { OUT };
                    let log = JournalLog::open(&self.app, uuid, process, priority)?;
                    output.add_log(Box::new(log));
                }
                Some(Log::Cri { path }) => {
                    let stream = if is_error { "stderr" } else { "stdout" };
                    let log = CriLog::open(&root.kubernetes_log(), path, stream)?;
                    output.add_log(Box::new(log));
                }
            }
        }
        Ok(())
    }

    /// Has logs look for files that were moved away.
    pub(super) fn reopen_logs(&mut self) {
        for (_, output) in &mut self.outputs {
            output.reopen_logs();
        }
    }

    /// Makes the endpoints, and then the file that names them.
    fn listen(&mut self, root: &StageRoot, targets: &[Target]) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let dir = root.iottymux(&self.app);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("make {}", dir.display()))?;
        for target in targets {
            let path = root.endpoint(&self.app, *target);
            self.listeners
                .push((*target, listener(&path, SocketType::STREAM)?));
        }
        if self.terminal.is_some() {
            let path = root.terminal_size(&self.app);
            self.size_listener = Some(listener(&path, SocketType::SEQPACKET)?);
        }
        let endpoint = |target: &Target| {
            let address = root.endpoint(&self.app, *target);
            json!({"name": target.name(), "domain": "unix", "address": address})
        };
        let endpoints: Vec<_> = targets.iter().map(endpoint).collect();
        let file = root.endpoints(&self.app);
        let text = format!("{}\n", json!({"version": 1, "targets": endpoints}));
        // The same run, taken over from a program that has died: who looks at the file sees that it goes on.
        if fs::read_to_string(&file).is_ok_and(|before| before == text) {
            return Ok(());
        }
        write_whole(&file, text.as_bytes(), 0o644)
    }

    /// What PID 1 calls its descriptors.
    pub(super) fn stored_name(app: &str, target: Target) -> String {
        format!("{app}.{}", target.name())
    }

    /// Whether a descriptor leads to something still.
    fn is_open(&self) -> bool {
        let output = self.outputs.iter().any(|(_, output)| output.is_open());
        let piped = self.terminal.is_none() && self.input.as_ref().is_some_and(Input::is_open);
        output || piped
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        !self.current && self.outputs.iter().all(|(_, output)| output.is_done())
    }

    /// Whether [`Run::tick`] has to be called from time to time.
    pub(super) fn counts(&self) -> bool {
        self.outputs.iter().any(|(_, output)| output.counts())
    }

    /// Some time has gone by.
    pub(super) fn tick(&mut self, stopping: bool) {
        for (_, output) in &mut self.outputs {
            output.tick(stopping);
        }
    }

    /// Takes no more clients and no more of the app than there is.
    pub(super) fn close(&mut self) {
        for (_, output) in &mut self.outputs {
            output.close();
        }
        if let Some(input) = &mut self.input {
            input.close();
        }
    }

    /// All that it waits for.
    pub(super) fn waits(&self) -> Vec<(Place, PollFd<'_>)> {
        let mut waits = Vec::new();
        let ready = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        for (number, (_, listener)) in self.listeners.iter().enumerate() {
            waits.push((Place::Listener(number), ready(listener.as_fd())));
        }
        waits.extend(
            self.size_listener
                .iter()
                .map(|fd| (Place::Sizes, ready(fd.as_fd()))),
        );
        for (number, size) in self.sizes.iter().enumerate() {
            waits.push((Place::Size(number), ready(size.as_fd())));
        }
        for (number, (_, output)) in self.outputs.iter().enumerate() {
            waits.extend(output.source().map(|fd| (Place::Source(number), ready(fd))));
            let readers = output.waits();
            waits.extend(readers.map(|(reader, fd)| (Place::Reader(number, reader), fd)));
        }
        if let Some(input) = &self.input {
            waits.extend(input.target().map(|fd| (Place::Input, fd)));
            waits.extend(
                input
                    .clients()
                    .map(|(number, fd)| (Place::Typist(number), fd)),
            );
        }
        waits
    }

    /// Does what there is to do at a place. What else is ready keeps its number until [`Run::sweep`], clients of the input
    /// apart, which are looked at again in the next round.
    pub(super) fn serve(&mut self, place: Place, flags: PollFlags) {
        match place {
            Place::Listener(number) => self.accept(number),
            Place::Sizes => {
                let client = self.size_listener.as_ref().and_then(accept);
                self.sizes.extend(client);
            }
            Place::Size(number) => self.resize(number),
            Place::Source(number) => self.outputs[number].1.fill(),
            Place::Reader(number, reader) => self.outputs[number].1.serve(reader, flags),
            Place::Input => {
                if let Some(input) = &mut self.input {
                    input.serve_target(flags);
                }
            }
            Place::Typist(number) => {
                if let Some(input) = &mut self.input {
                    input.serve_client(number);
                }
            }
        }
    }

    /// Takes on all clients that wait: who has come before the app says something is to see that.
    fn accept(&mut self, number: usize) {
        let (target, listener) = &self.listeners[number];
        while let Some(client) = accept(listener).map(Rc::new) {
            if let (Target::Stdin | Target::Tty, Some(input)) = (target, &mut self.input) {
                input.add(client.clone());
            }
            let output = self.outputs.iter_mut().find(|(of, _)| of == target);
            if let Some((_, output)) = output {
                output.add_client(client);
            }
        }
    }

    /// Sets the size that a client tells, in the form `ROWS COLUMNS`; the kernel tells the app.
    fn resize(&mut self, number: usize) {
        let mut buffer = [0; 32];
        let size = match recv(&self.sizes[number], &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => None,
            Ok((count, _)) => std::str::from_utf8(&buffer[..count]).ok(),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => None,
        };
        let Some(size) = size else {
            self.sizes.remove(number);
            return;
        };
        let numbers: Vec<u16> = size.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let (Some(terminal), [rows, columns]) = (&self.terminal, &numbers[..]) {
            let size = Winsize {
                ws_row: *rows,
                ws_col: *columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // A terminal that is gone has no size.
            let _ = tcsetwinsize(&**terminal, size);
        }
    }

    /// Lets go of what is over.
    pub(super) fn sweep(&mut self, root: &StageRoot) {
        for (target, output) in &mut self.outputs {
            for missed in output.sweep() {
                let name = target.name();
                eprintln!(
                    "iottymux: app {}: a client of {name} has missed {missed} bytes",
                    self.app
                );
            }
        }
        if self.input.as_ref().is_some_and(Input::is_over) {
            // The end of input is seen when nobody has the other end any more, PID 1 included.
            let name = Run::stored_name(&self.app, Target::Stdin);
            report(notify::forget(&name), &self.app);
            if let Some(input) = &mut self.input {
                input.close();
            }
        }
        if self.current && !self.is_open() {
            report(self.retire(root), &self.app);
        }
    }

    /// The app is over, or runs again: its endpoints are no longer these.
    pub(super) fn retire(&mut self, root: &StageRoot) -> Result<()> {
        self.current = false;
        self.size_listener = None;
        self.sizes.clear();
        let listeners = std::mem::take(&mut self.listeners);
        let endpoints = root.endpoints(&self.app);
        absent(fs::remove_file(&endpoints))
            .with_context(|| format!("remove {}", endpoints.display()))?;
        for (target, _) in &listeners {
            let path = root.endpoint(&self.app, *target);
            absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))?;
            notify::forget(&Run::stored_name(&self.app, *target))?;
        }
        absent(fs::remove_file(root.terminal_size(&self.app))).context("remove sock-size")
    }

    /// Whether its endpoints are the app's.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }
}

/// Tells of a failure that is none of the app's.
pub(super) fn report(done: Result<()>, app: &str) {
    if let Err(err) = done {
        eprintln!("iottymux: app {app}: {err:#}");
    }
}

/// A socket that listens at a path, in the place of what is there. It is made beside: who waits for it finds one that
/// listens.
fn listener(path: &Path, kind: SocketType) -> Result<OwnedFd> {
    let listen = || -> Result<OwnedFd> {
        let beside = path.with_extension("new");
        absent(fs::remove_file(&beside))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        let dir = fs::File::open(path.parent().context("no directory")?)?;
        let name = beside.file_name().context("no name")?;
        bind(&socket, &endpoint::address(&dir, name)?)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        fs::rename(&beside, path)?;
        Ok(socket)
    };
    listen().with_context(|| format!("listen at {}", path.display()))
}

/// The client that waits; `None` when it is gone already.
fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    accept_with(listener, flags).ok()
}
