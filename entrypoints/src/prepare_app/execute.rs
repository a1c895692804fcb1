//! Executes the app's program, looked up as the specification says, and finds out what is missing when that fails.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use common::env::Environment;
use common::sys::Program;
use elf::ElfStream;
use elf::abi::PT_INTERP;
use elf::endian::AnyEndian;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Why the program could not be executed.
pub(crate) struct Failure {
    /// The file that is to blame: the program, the interpreter that its first line names, or its loader.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) error: io::Error,
}

/// Finds the program, and everything that is missing for executing it. This comes before the system call filter is
/// loaded, which may forbid to look.
pub(crate) fn find(words: &[String], environment: &Environment) -> Result<PathBuf, Failure> {
    let name = &words[0];
    let mut failure = Failure {
        path: name.into(),
        error: Errno::NOENT.into(),
    };
    for path in candidates(name, environment.get("PATH").unwrap_or_default()) {
        match accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) if path.is_dir() => {
                failure = Failure {
                    path,
                    error: Errno::ACCESS.into(),
                }
            }
            Ok(()) => return with_interpreter(path),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // As execvp(3): one that may not be executed is remembered, and the search goes on.
            Err(error) => {
                failure = Failure {
                    path,
                    error: error.into(),
                }
            }
        }
    }
    Err(failure)
}

/// Executes the program that was found in the place of this one, after `seal` has confined it. Returns only when that
/// fails.
pub(crate) fn execute(
    path: PathBuf,
    words: &[String],
    environment: &Environment,
    seal: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Failure> {
    let variables = environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let words = words.iter().map(String::as_str);
    let program = Program::new(path.as_os_str().as_bytes(), words, variables)
        .context("prepare the app's program")?;
    let error = program.execute(seal)?;
    Ok(Failure { path, error })
}

/// Where the program may be: a name with a slash is a path, any other is looked up in `PATH` (appc specification,
/// "exec"). An empty part of `PATH` is the working directory.
fn candidates(name: &str, path: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![name.into()];
    }
    path.split(':')
        .map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name))
        .collect()
}

/// `execve` says "not found" of a program that is there when its interpreter or loader is missing: the file that is
/// really missing is to be named.
fn with_interpreter(path: PathBuf) -> Result<PathBuf, Failure> {
    match interpreter(&path).filter(|interpreter| !interpreter.exists()) {
        Some(missing) => Err(Failure {
            path: missing,
            error: Errno::NOENT.into(),
        }),
        None => Ok(path),
    }
}

/// What the kernel executes in the place of a file: the program of its `#!` line, or its ELF loader.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    // The kernel reads as much of the first line (BINPRM_BUF_SIZE).
    File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut start)
        .ok()?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line);
        return line
            .lines()
            .next()?
            .split_ascii_whitespace()
            .next()
            .map(PathBuf::from);
    }
    elf_loader(File::open(path).ok()?)
}

/// The loader that an ELF program names in its `PT_INTERP` segment.
fn elf_loader(file: File) -> Option<PathBuf> {
    let mut elf = ElfStream::<AnyEndian, _>::open_stream(file).ok()?;
    let segment = elf
        .segments()
        .iter()
        .find(|segment| segment.p_type == PT_INTERP)
        .copied()?;
    let data = elf.segment_data(&segment).ok()?;
    let name = data.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}
