//! The app's standard input, or the input of its terminal: what all clients send, in the order in which it comes.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How much is taken from a client at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// An input of the app.
pub(super) struct Input {
    /// Where it goes, as long as the app has it open and it has not ended.
    target: Option<Rc<OwnedFd>>,
    /// Whether it ends with the last client that ends its own. A terminal does not end.
    ends: bool,
    clients: Vec<Rc<OwnedFd>>,
    /// What was taken from a client, and how much of it the app has got.
    typed: Vec<u8>,
    given: usize,
    /// The last client has said that this is all.
    over: bool,
}

impl Input {
    /// The writing end of a pipe, which must not block.
    pub(super) fn of_pipe(target: Rc<OwnedFd>) -> Self {
        Self::new(target, true)
    }

    /// The master side of a terminal, which must not block.
    pub(super) fn of_terminal(target: Rc<OwnedFd>) -> Self {
        Self::new(target, false)
    }

    fn new(target: Rc<OwnedFd>, ends: bool) -> Self {
        Input {
            target: Some(target),
            ends,
            clients: Vec::new(),
            typed: Vec::new(),
            given: 0,
            over: false,
        }
    }

    /// Takes what a client sends. One that comes after the end is let go of at once.
    pub(super) fn add(&mut self, client: Rc<OwnedFd>) {
        if self.target.is_some() && !self.over {
            self.clients.push(client);
        }
    }

    /// Whether the app can get more of it.
    pub(super) fn is_open(&self) -> bool {
        self.target.is_some()
    }

    /// The app has closed it, or ended.
    pub(super) fn close(&mut self) {
        self.target = None;
        self.clients.clear();
        self.typed.clear();
        self.given = 0;
    }

    /// The app's side, to be watched for its end too.
    pub(super) fn target(&self) -> Option<PollFd<'_>> {
        let target = self.target.as_ref()?;
        let pending = self.given < self.typed.len();
        let events = if pending {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        // Of a terminal the end is seen where it is read.
        (pending || self.ends).then(|| PollFd::new(&**target, events))
    }

    /// The clients that are waited for: none, as long as the app has not taken what was sent before.
    pub(super) fn clients(&self) -> impl Iterator<Item = (usize, PollFd<'_>)> {
        let free = self.given == self.typed.len();
        let clients = self.clients.iter().enumerate().filter(move |_| free);
        clients.map(|(number, client)| (number, PollFd::new(&**client, PollFlags::IN)))
    }

    /// The app can take something, or has closed the input.
    pub(super) fn serve_target(&mut self, flags: PollFlags) {
        if flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return self.close();
        }
        self.give();
    }

    /// A client has sent something, or has ended.
    pub(super) fn serve_client(&mut self, number: usize) {
        let Some(client) = self.clients.get(number).cloned() else {
            return;
        };
        if self.given < self.typed.len() {
            return;
        }
        self.given = 0;
        self.typed.resize(CHUNK, 0);
        let read = rustix::io::read(&*client, &mut self.typed[..]);
        self.typed.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.ended(&client),
            Ok(_) => self.give(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.remove(&client),
        }
    }

    /// A client sends nothing more. One that is gone altogether has only gone away: others may come.
    fn ended(&mut self, client: &Rc<OwnedFd>) {
        self.remove(client);
        if self.ends && self.clients.is_empty() && !has_hung_up(client) {
            self.over = true;
        }
    }

    fn remove(&mut self, client: &Rc<OwnedFd>) {
        self.clients.retain(|other| !Rc::ptr_eq(other, client));
    }

    /// Whether the app's input is to end, as all that was sent is with the app.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.given == self.typed.len() && self.target.is_some()
    }

    fn give(&mut self) {
        while let (Some(target), true) = (&self.target, self.given < self.typed.len()) {
            match rustix::io::write(&**target, &self.typed[self.given..]) {
                Ok(count) => self.given += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.close(),
            }
        }
    }
}

/// Whether the other side has closed a connection, and not only its own direction of it.
fn has_hung_up(client: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::HUP)
}
