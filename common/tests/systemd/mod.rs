//! systemd's own reader of unit files: `systemd --test` loads units and prints what it understood.
//!
//! It needs no privilege (as root it refuses, so it is run as nobody then) and no running systemd.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The program that reads units.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// Who runs it when the test is run by root.
const NOBODY: u32 = 65534;
/// The target that wants the units of a test.
const TARGET: &str = "test.target";

/// What systemd understood of units.
pub(crate) struct Loaded {
    /// By unit, the lines of the dump: key and value.
    units: BTreeMap<String, Vec<(String, String)>>,
    /// What it said meanwhile.
    pub(crate) messages: String,
}

/// Says why a test is skipped when `program` is missing.
pub(crate) fn missing(program: &str) -> bool {
    let missing = !Path::new(program).exists();
    if missing {
        eprintln!("skipped: {program} is not installed (scripts/setup --test installs it)");
    }
    missing
}

/// Whether systemd's reader is missing; says so.
pub(crate) fn missing_systemd() -> bool {
    missing(SYSTEMD)
}

/// Loads the `wanted` ones of units, given by file name, and those of the others that belong to them.
pub(crate) fn load(units: &BTreeMap<String, String>, wanted: &[String]) -> Loaded {
    let dir = TempDir::new().unwrap();
    let path = dir.path();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    let (unit_dir, runtime) = (path.join("units"), path.join("run"));
    for new in [&unit_dir, &runtime] {
        fs::create_dir(new).unwrap();
    }
    for (name, content) in units {
        fs::write(unit_dir.join(name), content).unwrap();
    }
    let wants: String = wanted
        .iter()
        .map(|name| format!("Wants={name}\n"))
        .collect();
    fs::write(unit_dir.join(TARGET), format!("[Unit]\n{wants}")).unwrap();

    let mut command = Command::new(SYSTEMD);
    command
        .args(["--test", "--system", "--no-pager"])
        .arg(format!("--unit={TARGET}"))
        .env_clear()
        .env("HOME", &runtime)
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("SYSTEMD_UNIT_PATH", &unit_dir)
        .stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        chown(&runtime, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {messages}", output.status);
    Loaded {
        units: parse(&String::from_utf8(output.stdout).unwrap()),
        messages,
    }
}

/// Reads the dump: a line `-> Unit NAME:` for each unit and below it lines `KEY: VALUE`.
fn parse(dump: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut units = BTreeMap::new();
    let mut entries: &mut Vec<(String, String)> = &mut Vec::new();
    for line in dump.lines().map(|line| line.trim_start_matches('\t')) {
        if let Some(name) = line.strip_prefix("-> Unit ") {
            let name = name.trim_end_matches(':').to_owned();
            entries = units.entry(name).or_default();
        } else if let Some((key, value)) = line.split_once(": ") {
            entries.push((key.to_owned(), value.to_owned()));
        }
    }
    units
}

impl Loaded {
    /// Values of a key of a unit, in order.
    pub(crate) fn values<'a>(&'a self, unit: &str, key: &'a str) -> impl Iterator<Item = &'a str> {
        let entries = self.units.get(unit).into_iter().flatten();
        entries
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// The state a unit was left in by loading: `loaded`, or what went wrong.
    pub(crate) fn state(&self, unit: &str) -> &str {
        self.values(unit, "Unit Load State")
            .next()
            .unwrap_or("not met")
    }

    /// The command lines of a unit, as lists of arguments.
    pub(crate) fn commands(&self, unit: &str) -> Vec<Vec<String>> {
        self.values(unit, "Command Line").map(unquote).collect()
    }
}

/// Takes a command line apart that systemd has quoted for the dump: words with blanks between, in double quotes
/// where it found that needful; there a backslash stands before special characters, or an escape of C for a
/// control character.
fn unquote(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.bytes().peekable();
    while rest.peek().is_some() {
        let quoted = rest.next_if_eq(&b'"').is_some();
        let mut word = Vec::new();
        loop {
            match rest.next() {
                None | Some(b' ') if !quoted => break,
                Some(b'"') if quoted => {
                    let next = rest.next();
                    assert!(matches!(next, None | Some(b' ')), "{line}");
                    break;
                }
                Some(b'\\') => word.push(unescape(&mut rest)),
                Some(byte) => word.push(byte),
                None => panic!("no end of quotes: {line}"),
            }
        }
        words.push(String::from_utf8(word).unwrap());
    }
    words
}

fn unescape(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next().unwrap() {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        first @ b'0'..=b'7' => [first, rest.next().unwrap(), rest.next().unwrap()]
            .iter()
            .fold(0, |sum, digit| sum * 8 + (digit - b'0')),
        special => special,
    }
}
