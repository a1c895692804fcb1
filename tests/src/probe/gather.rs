//! Gathering the report from /proc and the file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::Errno;

use super::seen::{Capabilities, Node, Outcome, Request, Seen, Terminal};

/// Gathers the report and prints it or writes it where asked.
pub(super) fn report(request: &Request) -> Result<()> {
    let json = serde_json::to_string(&gather(request)?)?;
    match &request.out {
        Some(path) => super::step::write_whole(path, &json),
        None => Ok(std::io::Write::write_all(
            &mut std::io::stdout(),
            format!("{json}\n").as_bytes(),
        )?),
    }
}

fn gather(request: &Request) -> Result<Seen> {
    let status = status()?;
    let numbers = |name: &str, radix: u32| -> Vec<u64> {
        let words = status.get(name).map(String::as_str).unwrap_or_default();
        words
            .split_whitespace()
            .filter_map(|word| u64::from_str_radix(word, radix).ok())
            .collect()
    };
    let ids = |name: &str| {
        numbers(name, 10)
            .into_iter()
            .map(|id| id as u32)
            .collect::<Vec<_>>()
    };
    let set = |name: &str| numbers(name, 16).first().copied().unwrap_or_default();
    let mut groups = ids("Groups");
    groups.sort_unstable();
    let mut looks = request.looks.clone();
    looks.extend(["/etc/hosts", "/etc/resolv.conf"].map(|path| ("read".into(), path.into())));
    looks.extend([("list".into(), "/".into()), ("list".into(), "/dev".into())]);
    Ok(Seen {
        argv: nul_separated("/proc/self/cmdline")?,
        env: nul_separated("/proc/self/environ")?,
        cwd: std::env::current_dir().context("working directory")?,
        ids: process_ids()?,
        uids: ids("Uid"),
        gids: ids("Gid"),
        groups,
        capabilities: Capabilities {
            inheritable: set("CapInh"),
            permitted: set("CapPrm"),
            effective: set("CapEff"),
            bounding: set("CapBnd"),
            ambient: set("CapAmb"),
        },
        securebits: rustix::thread::capabilities_secure_bits()?.bits(),
        fds: links("/proc/self/fd")?
            .into_iter()
            .filter_map(|(name, target)| Some((name.parse().ok()?, target)))
            // The directory that is being read is not the app's.
            .filter(|(_, target)| !target.ends_with("/fd"))
            .collect(),
        mounts: lines("/proc/self/mountinfo")?,
        cgroups: lines("/proc/self/cgroup")?,
        namespaces: links("/proc/self/ns")?,
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        limits: limits()?,
        oom_score_adj: fs::read_to_string("/proc/self/oom_score_adj")?
            .trim()
            .parse()?,
        scheduling: scheduling()?,
        processes: processes()?,
        terminal: Terminal {
            controlling: fs::File::open("/dev/tty").is_ok(),
            streams: [
                rustix::termios::isatty(rustix::stdio::stdin()),
                rustix::termios::isatty(rustix::stdio::stdout()),
                rustix::termios::isatty(rustix::stdio::stderr()),
            ],
        },
        looks: looks
            .iter()
            .map(|(verb, path)| (format!("{verb} {}", path.display()), look(verb, path)))
            .collect(),
        status,
    })
}

fn look(verb: &str, path: &Path) -> Outcome {
    let outcome = match verb {
        "stat" => node(path).map(Outcome::Node),
        "read" => {
            fs::read(path).map(|bytes| Outcome::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "list" => names(path).map(Outcome::Names),
        _ => fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map(|_| Outcome::Writable),
    };
    outcome.unwrap_or_else(|error| {
        Outcome::Error(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
    })
}

fn node(path: &Path) -> std::io::Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let kinds = [
        (meta.file_type().is_dir(), 'd'),
        (meta.file_type().is_symlink(), 'l'),
        (meta.file_type().is_char_device(), 'c'),
        (meta.file_type().is_block_device(), 'b'),
        (meta.file_type().is_fifo(), 'p'),
        (meta.file_type().is_socket(), 's'),
    ];
    Ok(Node {
        kind: kinds
            .iter()
            .find(|(is, _)| *is)
            .map_or('-', |(_, letter)| *letter),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        device: (
            rustix::fs::major(meta.rdev()),
            rustix::fs::minor(meta.rdev()),
        ),
        target: fs::read_link(path).ok(),
    })
}

fn names(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn text(path: &str) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lines(path: &str) -> Result<Vec<String>> {
    Ok(text(path)?.lines().map(str::to_owned).collect())
}

fn nul_separated(path: &str) -> Result<Vec<String>> {
    Ok(text(path)?
        .split_terminator('\0')
        .map(str::to_owned)
        .collect())
}

fn links(dir: &str) -> Result<BTreeMap<String, String>> {
    let names = names(Path::new(dir)).with_context(|| format!("list {dir}"))?;
    let link = |name: &String| fs::read_link(Path::new(dir).join(name)).ok();
    Ok(names
        .iter()
        .filter_map(|name| Some((name.clone(), link(name)?.to_string_lossy().into_owned())))
        .collect())
}

fn status() -> Result<BTreeMap<String, String>> {
    let lines = lines("/proc/self/status")?;
    Ok(lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

/// The fields of /proc/self/stat from the third on. The name before them may hold anything, so they are counted from its
/// end.
fn stat() -> Result<Vec<String>> {
    let stat = text("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("parse /proc/self/stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// The ids of what is outside the PID namespace are 0.
fn process_ids() -> Result<BTreeMap<String, i32>> {
    let pid = i32::try_from(std::process::id())?;
    let mut ids = BTreeMap::from([("pid".to_owned(), pid)]);
    // After the state.
    for (name, id) in ["ppid", "pgid", "sid"].iter().zip(&stat()?[1..]) {
        ids.insert((*name).to_owned(), id.parse()?);
    }
    Ok(ids)
}

/// By the numbers that proc_pid_stat(5) has.
fn scheduling() -> Result<BTreeMap<String, i64>> {
    let stat = stat()?;
    let mut all = BTreeMap::from([("io".to_owned(), super::call::io_priority())]);
    for (name, field) in [
        ("priority", 18),
        ("nice", 19),
        ("real-time", 40),
        ("policy", 41),
    ] {
        let value = stat.get(field - 3).context("parse /proc/self/stat")?;
        all.insert(name.to_owned(), value.parse()?);
    }
    Ok(all)
}

/// Lines such as `Max open files            1024                 4096                 files`.
fn limits() -> Result<BTreeMap<String, (String, String)>> {
    let lines = lines("/proc/self/limits")?;
    Ok(lines
        .iter()
        .skip(1)
        .filter_map(|line| {
            let (name, values) = line.split_at_checked(26)?;
            let mut values = values.split_whitespace().map(str::to_owned);
            Some((name.trim().into(), (values.next()?, values.next()?)))
        })
        .collect())
}

fn processes() -> Result<BTreeMap<i32, String>> {
    Ok(names(Path::new("/proc"))
        .context("list /proc")?
        .iter()
        .filter_map(|name| name.parse::<i32>().ok())
        .filter_map(|pid| {
            Some((
                pid,
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .ok()?
                    .trim()
                    .to_owned(),
            ))
        })
        .collect())
}
