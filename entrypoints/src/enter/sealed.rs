//! This program in memory that nobody can write to.
//!
//! For a moment the process that enters is a process of the pod whose program is a file of the host. Through
//! `/proc/PID/exe` an app could open that file and write to it as soon as it does not run any more (CVE-2019-5736), and
//! learn where it is. So the program first becomes a copy of itself in a sealed file that has no path; all else of the
//! host that others read in `/proc`, name and environment, stays behind as well.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// The only variable of the caller's environment that means something inside.
const TERM: &str = "TERM";

/// Becomes the sealed copy, with the same arguments; does nothing when this is it.
pub(super) fn become_sealed(args: &[OsString]) -> Result<()> {
    let mut own = File::open("/proc/self/exe").context("open this program")?;
    // The kernel has seals of files in memory only.
    if fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SEALS)) {
        // Nobody but root of the host may look into this process or attach to it.
        return set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("forbid to look into this process");
    }
    let copy = memory_file().context("make a file in memory")?;
    let mut file = File::from(copy);
    std::io::copy(&mut own, &mut file).context("copy this program into memory")?;
    fcntl_add_seals(&file, SEALS).context("seal the copy of this program")?;
    let words = std::iter::once(OsString::from("enter")).chain(args.iter().cloned());
    let words = words.map(|word| CString::new(word.into_vec()));
    let words: Vec<_> = words.collect::<Result<_, _>>().context("arguments")?;
    let term = std::env::var_os(TERM)
        .map(|value| CString::new([b"TERM=", value.as_bytes()].concat()))
        .transpose()
        .context(TERM)?;
    let environment: Vec<_> = term.into_iter().collect();
    let Err(err) = nix::unistd::fexecve(&file, &words, &environment);
    Err(err).context("execute the copy of this program")
}

/// A file in memory that may be executed, which a kernel may be told to refuse to files that do not ask for it
/// (memfd_create(2), `MFD_EXEC`). Before Linux 6.3 none asks.
fn memory_file() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(c"enter", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(c"enter", flags),
        made => made,
    }
}
