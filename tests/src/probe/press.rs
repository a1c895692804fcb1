//! Pressing against limits: what the probe does to find out what it is allowed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::time::{ClockId, clock_gettime};

/// One way to press.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Press {
    /// `mknod PATH c|b MAJOR MINOR`: make a device node and open it; prints `PATH: made, opened`, or the errors' numbers.
    Mknod(PathBuf, FileType, u32, u32),
    /// `leave-chroot DIRECTORY`: the classic way out of a chroot; prints the names in the root that it led to.
    LeaveChroot(PathBuf),
    /// `allocate MEGABYTES`: have as much memory for a moment.
    Allocate(usize),
    /// `spin MILLISECONDS`: compute for as long as the clock says.
    Spin(u64),
    /// `burn MILLISECONDS`: compute for as long as the processor counts; prints `burnt in N`, the clock's milliseconds.
    Burn(u64),
    /// `threads N`: try to have as many at a time; prints `threads: N`, how many there were.
    Threads(usize),
}

impl Press {
    pub(super) fn parse(words: &[&str]) -> Result<Option<Self>> {
        Ok(Some(match words {
            ["mknod", path, kind, major, minor] => {
                let kind = match *kind {
                    "c" => FileType::CharacterDevice,
                    "b" => FileType::BlockDevice,
                    other => bail!("no kind of device: {other:?}"),
                };
                Self::Mknod(path.into(), kind, major.parse()?, minor.parse()?)
            }
            ["leave-chroot", jail] => Self::LeaveChroot(jail.into()),
            ["allocate", megabytes] => Self::Allocate(megabytes.parse().context("megabytes")?),
            ["spin", time] => Self::Spin(time.parse().context("milliseconds")?),
            ["burn", time] => Self::Burn(time.parse().context("milliseconds")?),
            ["threads", count] => Self::Threads(count.parse().context("number of threads")?),
            _ => return Ok(None),
        }))
    }

    /// Does it; the text is for stdout.
    pub(super) fn run(&self) -> Result<String> {
        Ok(match self {
            Self::Mknod(path, kind, major, minor) => {
                let mode = Mode::from_raw_mode(0o600);
                let made = mknodat(CWD, path, *kind, mode, makedev(*major, *minor));
                let made =
                    made.map_or_else(|err| err.raw_os_error().to_string(), |()| "made".into());
                let opened = match std::fs::File::open(path) {
                    Ok(_) => "opened".into(),
                    Err(err) => err.raw_os_error().unwrap_or_default().to_string(),
                };
                format!("{}: {made}, {opened}", path.display())
            }
            Self::LeaveChroot(jail) => {
                // The working directory stays outside of the new root, so that no ".." stops there.
                std::os::unix::fs::chroot(jail).context("chroot")?;
                std::env::set_current_dir("../".repeat(100)).context("chdir")?;
                std::os::unix::fs::chroot(".").context("chroot .")?;
                let entries = std::fs::read_dir("/")?;
                let names: std::io::Result<Vec<_>> = entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect();
                names?.join("\n")
            }
            Self::Allocate(megabytes) => {
                // Not zeroes, which the kernel would not need pages for.
                let memory = vec![1_u8; megabytes << 20];
                format!("allocated {}", std::hint::black_box(memory).len() >> 20)
            }
            Self::Spin(time) => {
                let end = Instant::now() + Duration::from_millis(*time);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                "spun".into()
            }
            Self::Burn(time) => {
                let (begin, before) = (Instant::now(), used()?);
                while used()? - before < Duration::from_millis(*time) {
                    std::hint::spin_loop();
                }
                format!("burnt in {}", begin.elapsed().as_millis())
            }
            Self::Threads(count) => {
                let (end, ends) = std::sync::mpsc::channel::<()>();
                let ends = std::sync::Arc::new(std::sync::Mutex::new(ends));
                let start = |_| {
                    let ends = ends.clone();
                    let wait = move || drop(ends.lock().map(|ends| ends.recv()));
                    std::thread::Builder::new().spawn(wait)
                };
                let threads: Vec<_> = (0..*count).map_while(|n| start(n).ok()).collect();
                let number = threads.len();
                drop(end);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                format!("threads: {number}")
            }
        })
    }
}

/// The processor's time that this process has used.
fn used() -> Result<Duration> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::try_from(used)?)
}
