//! QEMU, and what it is given.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::protocol::{BEGIN, KERNEL};
use super::report::{Report, shown};
use super::{Config, Guest};
use crate::process;
use crate::wait;

const QEMU: &str = "qemu-system-x86_64";
/// Room on the payload disk beside the files: the file system's own tables, and what steps write.
const PAYLOAD_ROOM: u64 = 64 << 20;

/// What a guest reports while it boots, and how long after its start that may be. The limit for what runs in it is a long
/// one, which a guest that hangs before that should not take.
const SIGNS: [(&str, Duration); 2] = [
    (KERNEL, Duration::from_secs(120)),
    (BEGIN, Duration::from_secs(300)),
];

/// Why a guest can't be started here; nothing when it can.
pub fn missing(guest: Guest) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| {
        let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let mut dirs = std::env::split_paths(&path).chain(sbin);
        dirs.any(|dir| dir.join(program).exists())
    };
    if let Some(program) = [QEMU, "mke2fs", "setpriv"]
        .into_iter()
        .find(|program| !found(program))
    {
        return Some(format!("{program} is missing: run scripts/setup"));
    }
    let made = made();
    let kernel = guest.kernel(&made);
    let files = [
        kernel.join("vmlinuz"),
        kernel.join("initrd"),
        guest.init.image(&made),
        made.join("policies/selinux"),
    ];
    let file = files.into_iter().find(|file| !file.exists())?;
    Some(format!("{} is missing: run scripts/vm", file.display()))
}

/// Where `scripts/vm` puts things.
pub(super) fn made() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/cache/vm")
}

/// A guest that runs. It is killed, and its files are removed, when this is dropped.
pub struct TestVm {
    config: Config,
    dir: tempfile::TempDir,
    qemu: Child,
    deadline: Instant,
}

impl TestVm {
    /// Starts a guest.
    pub fn new(config: Config) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("stage1-vm-")
            .tempdir()
            .context("make a folder for the guest")?;
        make_payload(&config, dir.path())?;
        let qemu = command(&config, dir.path())?
            .spawn()
            .context("start QEMU")?;
        Ok(Self {
            deadline: Instant::now() + config.limit,
            config,
            dir,
            qemu,
        })
    }

    /// Waits until the guest has switched itself off, and gives its report.
    pub fn finish(mut self) -> Result<Report> {
        if let Some(sign) = self.missing_sign()? {
            bail!(
                "no {sign} from the guest while it boots\n{}",
                shown(&self.read("console")?)
            );
        }
        if !self.wait(self.deadline)? {
            bail!(
                "the guest has not ended within {} s\n{}",
                self.config.limit.as_secs(),
                shown(&self.read("console")?)
            );
        }
        let status = self.qemu.wait().context("wait for QEMU")?;
        let console = self.read("console")?;
        ensure!(
            status.success(),
            "QEMU: {status}: {}\n{}",
            self.read("qemu")?.trim(),
            shown(&console)
        );
        Report::judge(&self.config.steps, &self.read("report")?, &console)
    }

    /// What the guest should have reported by its time and has not, if its whole time is not over.
    fn missing_sign(&self) -> Result<Option<&'static str>> {
        let started = Instant::now();
        for (sign, limit) in SIGNS {
            let end = self.deadline.min(started + limit);
            if self.wait(end)? || end == self.deadline {
                break;
            }
            if !self.read("report")?.lines().any(|line| line == sign) {
                return Ok(Some(sign));
            }
        }
        Ok(None)
    }

    /// Whether QEMU has ended.
    fn wait(&self, deadline: Instant) -> Result<bool> {
        let pidfd =
            pidfd_open(Pid::from_child(&self.qemu), PidfdFlags::empty()).context("pidfd")?;
        wait::readable(pidfd.as_fd(), Some(deadline))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.path().join(name);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for TestVm {
    fn drop(&mut self) {
        // Both fail harmlessly for one that has been waited for.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Makes the disk with the test's files.
fn make_payload(config: &Config, dir: &Path) -> Result<()> {
    let folder = dir.join("payload");
    config.write(&folder)?;
    let mut size = PAYLOAD_ROOM;
    for entry in fs::read_dir(&folder).context("list the payload")? {
        size += entry?.metadata()?.len();
    }
    let disk = dir.join("payload.ext4");
    let file = File::create(&disk).with_context(|| format!("make {}", disk.display()))?;
    file.set_len(size).context("size the payload's disk")?;
    let mut mke2fs = Command::new("mke2fs");
    // It is in /sbin, which is not in the PATH of everybody who may run it.
    let path = std::env::var("PATH").unwrap_or_default();
    mke2fs
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([&folder, &disk]);
    process::run(mke2fs)?.expect(0)?;
    fs::remove_dir_all(&folder).context("remove the payload's folder")
}

fn command(config: &Config, dir: &Path) -> Result<Command> {
    let made = made();
    let kernel = config.guest.kernel(&made);
    // Without the network and its time-outs; a panic restarts the machine at once, which `-no-reboot` makes an end.
    let mut kernel_words = vec![
        "console=ttyS0",
        "quiet",
        "panic=-1",
        // Whatever goes on after one proves nothing.
        "oops=panic",
        // A processor that does nothing else for two minutes never will.
        "softlockup_panic=1",
        "watchdog_thresh=60",
        "mitigations=off",
        "tsc=unstable",
        "no_timer_check",
        // Some 8 % of a test's time: the kernel would clear all that it hands out.
        "init_on_alloc=0",
        // The kernel's tests of its own ciphers: they take a second, and under QEMU have been seen never to end.
        "cryptomgr.notests",
        // The same program at the same addresses each time: QEMU has translated it for these already.
        "norandmaps",
        "systemd.getty_auto=no",
    ];
    kernel_words.extend(config.guest.kernel_words());
    kernel_words.extend(config.kernel_words.iter().map(String::as_str));
    let disk = |path: &Path| {
        format!(
            "file={},if=virtio,format=raw,snapshot=on",
            path.display().to_string().replace(',', ",,")
        )
    };
    let port = |name: &str| {
        let path = dir.join(name).display().to_string();
        format!("file:{}", path.replace(',', ",,"))
    };
    // With the test, whatever ends it, the guest ends too.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", QEMU])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        // One thread for both processors: with a thread each, QEMU before 8.1 can go on to execute what one has translated
        // while the other wrote it, and the kernel replaces code of its own. A guest then met a breakpoint that was there no
        // more, or the same one for ever. Guests run two at a time, so two threads are enough.
        // The less a processor has, the quicker it is emulated: a third of the time goes into what this one lacks.
        .args(["-accel", "tcg,thread=single", "-cpu", "qemu64,+rdrand"])
        .args(["-smp", "2", "-m", "2048", "-display", "none"])
        .arg("-kernel")
        .arg(kernel.join("vmlinuz"))
        .arg("-initrd")
        .arg(kernel.join("initrd"))
        .args(["-append", &kernel_words.join(" ")])
        .args(["-drive", &disk(&config.image.image(&made))])
        .args(["-drive", &disk(&dir.join("payload.ext4"))])
        .args(["-serial", &port("console"), "-serial", &port("report")])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(File::create(dir.join("qemu")).context("make QEMU's log")?);
    Ok(command)
}
