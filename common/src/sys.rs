//! System calls that the crates in use have no safe call for, each wrapped once. The only unsafe code of the library.

#![allow(
    unsafe_code,
    reason = "the fence: every unsafe block of the library stands here"
)]

pub mod scheduling;

use std::ffi::{CString, NulError, c_char};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Attributes of a mount that [`mount_setattr`] sets.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes<'a> {
    /// `MOUNT_ATTR_RDONLY`
    pub read_only: bool,
    /// `MOUNT_ATTR_NODEV`: device nodes cannot be opened.
    pub no_devices: bool,
    /// `MS_SLAVE`: it gets what is mounted at its origin, and sends nothing there.
    pub slave: bool,
    /// For the mounts below it too.
    pub recursive: bool,
    /// `MOUNT_ATTR_IDMAP`: the ids on the disk are those of this user namespace.
    pub ids_of: Option<BorrowedFd<'a>>,
}

/// Sets attributes of the mount that `fd` is the root of (mount_setattr(2)).
pub fn mount_setattr(fd: impl AsFd, attributes: MountAttributes<'_>) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: if attributes.slave { libc::MS_SLAVE } else { 0 },
        userns_fd: 0,
    };
    if attributes.read_only {
        attr.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    if attributes.no_devices {
        attr.attr_set |= libc::MOUNT_ATTR_NODEV;
    }
    if let Some(namespace) = attributes.ids_of {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        // A descriptor is not negative.
        attr.userns_fd = u64::from(namespace.as_raw_fd().unsigned_abs());
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string and `attr` is the structure that the call reads, both alive across it, with
    // the size that is passed; the call keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes a descriptor that the caller of this program passed by number, as in `RKT_LOCK_FD`.
///
/// # Errors
/// When no descriptor has that number.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: F_GETFD reads the flags of a number, whether or not a descriptor stands behind it.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as just seen. It was opened by the program that executed this one, so nothing
    // here owns it; each number is taken once, when the program starts.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has errors and panics of this program come without a backtrace, whatever the caller's environment says. The first
/// thing that a `main` does.
pub fn without_backtraces() {
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: no other thread is there yet that could read the environment.
        unsafe { std::env::remove_var(name) };
    }
}

/// Marks every descriptor from 3 on close-on-exec (close_range(2)).
pub fn close_on_exec_from_3() -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing and touches no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the kernel has a system call that takes flags or a structure: it is called with nothing but wrong arguments.
pub(crate) fn has_call(number: libc::c_long) -> bool {
    const WRONG: libc::c_long = -1;
    // SAFETY: -1 is no descriptor, no pointer that could be read or written, and no flags that are known; so the kernel
    // refuses each of the calls that this is used for ([`crate::kernel`]) before it does anything.
    let result = unsafe { libc::syscall(number, WRONG, WRONG, WRONG, WRONG, WRONG) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Loads a program that allows a cgroup all devices (bpf(2)), and attaches it to none.
pub(crate) fn load_device_program() -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    /// `mov r0, 1` and `exit`.
    const ALLOW: [u64; 2] = [0x1_0000_00b7, 0x95];
    /// The beginning of `union bpf_attr`; the kernel takes what is not there for zero.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: *const u64,
        license: *const c_char,
    }
    let attributes = Attributes {
        kind: CGROUP_DEVICE,
        count: 2,
        instructions: ALLOW.as_ptr(),
        license: c"".as_ptr(),
    };
    // SAFETY: the structure and what it points to are alive across the call, which keeps no pointer; the size is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    match RawFd::try_from(result) {
        // SAFETY: the call has just made this descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `SIGRTMIN+3`, at which systemd as PID 1 starts `halt.target` (systemd(1), "Signals").
pub fn halt_signal() -> rustix::process::Signal {
    // SAFETY: from SIGRTMIN to SIGRTMAX, of which there are thirty, every number is a signal of the C library's.
    unsafe { rustix::process::Signal::from_raw_unchecked(libc::SIGRTMIN() + 3) }
}

/// Blocks that signal in this process, and in the programs that it executes: one that comes early waits until it is asked
/// for.
pub fn block_halt_signal() -> io::Result<()> {
    // SAFETY: all zeros is a value of this type, which the next call makes a set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is alive across the calls, which keep no pointer; SIG_BLOCK takes no null for it.
    let result = unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, halt_signal().as_raw());
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Brings the loopback interface of this thread's network namespace up; the kernel gives it 127.0.0.1 and ::1 then.
///
/// # Errors
/// Without CAP_NET_ADMIN.
pub fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(c"lo".to_bytes()) {
        *to = c_char::try_from(*from).map_err(|_| io::ErrorKind::InvalidData)?;
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(up).map_err(|_| io::ErrorKind::InvalidData)?,
        },
    };
    // SAFETY: the socket is open and `request` is the structure that SIOCSIFFLAGS reads (netdevice(7)), alive across the
    // call, with its name ended by a zero.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Copies this process (fork(2)): gives the child's pid to the parent, and nothing to the child.
///
/// # Errors
/// When the process has more threads than this one.
pub fn fork() -> io::Result<Option<rustix::process::Pid>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "a process of several threads cannot be copied",
        ));
    }
    // SAFETY: this thread is the only one, as just seen, so that none holds a lock that the child would wait for in vain:
    // the child may do whatever this process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(rustix::process::Pid::from_raw(pid)),
    }
}

/// Copies this process into a new user namespace, where the copy stops, and ends with this process at the latest. When it
/// does not come so far, its exit status is the number of the error.
pub fn fork_into_user_namespace() -> io::Result<rustix::process::Pid> {
    // SAFETY: other threads are not copied, and may have held locks. The copy makes system calls and nothing else: it
    // neither takes memory nor returns.
    let pid = unsafe {
        let parent = libc::getpid();
        let pid = libc::fork();
        if pid == 0 {
            let kill = libc::c_ulong::from(libc::SIGKILL.unsigned_abs());
            if libc::unshare(libc::CLONE_NEWUSER) == 0
                // After the change of credentials, which clears it.
                && libc::prctl(libc::PR_SET_PDEATHSIG, kill) == 0
                // A parent that was killed before sends nothing, and the copy would have its locks for ever.
                && libc::getppid() == parent
                && libc::raise(libc::SIGSTOP) == 0
            {
                libc::_exit(0);
            }
            libc::_exit(*libc::__errno_location());
        }
        pid
    };
    rustix::process::Pid::from_raw(pid)
        .filter(|_| pid > 0)
        .ok_or_else(io::Error::last_os_error)
}

/// Gives every signal its default action and blocks none, as programs expect when they start.
pub fn default_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of this process. SIGKILL, SIGSTOP and those of the C library refuse.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Leaves the keys of the caller's session for a new, empty session keyring (keyctl_join_session_keyring(3)). A kernel
/// without keys has none to leave.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    let unnamed = std::ptr::null::<c_char>();
    // SAFETY: a null name asks for a keyring without one; nothing is read or written in this process.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, unnamed) };
    match io::Error::last_os_error() {
        _ if result >= 0 => Ok(()),
        // EPERM: a filter around all of this machine's programs, which the command is in as well.
        err if matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        err => Err(err),
    }
}

/// The signal of a number; `None` when there is no such signal, or it is the C library's own.
pub fn signal(number: i32) -> Option<rustix::process::Signal> {
    let known =
        (1..=31).contains(&number) || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
    // SAFETY: the kernel has the number for a signal, and the C library does not keep it for itself.
    known.then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// Loads a compiled system call filter for this process and what it executes (seccomp(2), `SECCOMP_SET_MODE_FILTER`).
///
/// # Errors
/// When the program is not whole, or the process has neither CAP_SYS_ADMIN nor no_new_privs.
pub fn load_seccomp(program: &[u8]) -> io::Result<()> {
    // The kernel copies the instructions out of unaligned memory as well, but a reference of the type must not be.
    // They are never freed: to give memory back is a system call, and the filter may forbid it.
    let instructions: ManuallyDrop<Vec<libc::sock_filter>> = ManuallyDrop::new(
        program
            .chunks_exact(size_of::<libc::sock_filter>())
            .map(|raw| libc::sock_filter {
                code: u16::from_ne_bytes([raw[0], raw[1]]),
                jt: raw[2],
                jf: raw[3],
                k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
            })
            .collect(),
    );
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    if len == 0 || program.len() % size_of::<libc::sock_filter>() != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` names `len` instructions, alive across the call, which only reads and copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A program that is ready to be executed: nothing but the system call is left to do. `std::process::Command` still
/// resets SIGPIPE and builds its arguments, for which it makes calls that a system call filter may forbid.
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Prepares the execution of `path`, and lets SIGPIPE end this process as it ends other programs: Rust ignores it,
    /// and what is ignored stays so across execve(2).
    ///
    /// # Errors
    /// When a word has a zero byte in it.
    pub fn new(
        path: impl Into<Vec<u8>>,
        arguments: impl IntoIterator<Item = impl Into<Vec<u8>>>,
        environment: impl IntoIterator<Item = impl Into<Vec<u8>>>,
    ) -> Result<Self, NulError> {
        let program = Self {
            path: CString::new(path)?,
            arguments: arguments
                .into_iter()
                .map(CString::new)
                .collect::<Result<_, _>>()?,
            environment: environment
                .into_iter()
                .map(CString::new)
                .collect::<Result<_, _>>()?,
        };
        // SAFETY: the default action runs no code of this process.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        Ok(program)
    }

    /// Executes it in the place of this program, when `last` has been done: what must come directly before. Returns
    /// only when either fails, with what the system said of the program.
    ///
    /// # Errors
    /// Those of `last`.
    pub fn execute<E>(&self, last: impl FnOnce() -> Result<(), E>) -> Result<io::Error, E> {
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        last()?;
        // SAFETY: path, arguments and environment are C strings, the lists end with a null pointer, and all are alive
        // across the call. The C library looks nothing up, as the path has a slash; it takes its memory from the stack.
        unsafe { libc::execvpe(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Ok(io::Error::last_os_error())
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr());
    pointers.chain([std::ptr::null()]).collect()
}
