//! What the probe can be told to do.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, raise};

use super::press::Press;
use super::seen::Request;
use super::socket::Talk;
use super::{call, gather, notify};
use crate::wait;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `see [--out PATH] [--stat PATH] [--read PATH] [--list PATH] [--write PATH] [-- ANYTHING…]`: report.
    See(Request),
    /// `exit N`: end now.
    Exit(i32),
    /// `kill NAME`: send itself a signal (`TERM`, `KILL`, …).
    Kill(Signal),
    /// `print TEXT`: a line on stdout.
    Print(String),
    /// `eprint TEXT`: a line on stderr.
    Eprint(String),
    /// `lines N`: lines `line 1 of N` to `line N of N` on stdout.
    Lines(u32),
    /// `write PATH TEXT`: make or replace a file, in one rename, so that who waits for it finds it whole.
    Write(PathBuf, String),
    /// `append PATH TEXT`: add to a file.
    Append(PathBuf, String),
    /// `read PATH`: print a file.
    Read(PathBuf),
    /// `echo-line`: read a line from stdin and print it back as `echo: LINE`.
    EchoLine,
    /// `wait-file PATH`: until it exists.
    WaitFile(PathBuf),
    /// `until-term`: until SIGTERM, SIGINT or SIGHUP; prints `got NAME` and goes on to the next step.
    UntilTerm,
    /// `ignore-term`: SIGTERM and SIGINT have no effect from here on.
    IgnoreTerm,
    /// `until-size ROWS COLUMNS`: until the terminal is of that size; prints `size ROWS COLUMNS`.
    UntilSize(u16, u16),
    /// `hang`: for ever.
    Hang,
    /// `spawn STEP…`: the same program with these steps as a child that is not waited for.
    Spawn(Vec<String>),
    /// `exec PROGRAM ARGS…`: become another program.
    Exec(Vec<String>),
    /// `without CALL PROGRAM ARGS…`: become another program, for which the kernel has no such system call.
    Without(String, Vec<String>),
    /// `call NUMBER…`: make system calls with arguments of zero; prints `call NUMBER: ok`, or the error's name.
    Call(Vec<i64>),
    /// `notify MESSAGE`: tell systemd, and wait until it has read that; `@PID@` stands for the probe's pid.
    Notify(String),
    /// `until-orphan`: until the process that started this one has ended.
    UntilOrphan,
    /// Press against a limit.
    Press(Press),
    /// Talk over a socket.
    Talk(Talk),
}

/// Splits the command line into steps.
pub(super) fn parse(words: &[String]) -> Result<Vec<Step>> {
    match words.split_first() {
        None => Ok(vec![Step::See(Request::default())]),
        Some((first, rest)) if first == "do" => rest.split(|word| word == "+").map(one).collect(),
        Some(_) => Ok(vec![one(words)?]),
    }
}

fn one(words: &[String]) -> Result<Step> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words[..] {
        ["see", ref rest @ ..] => Step::See(Request::parse(rest)?),
        ["exit", status] => Step::Exit(status.parse().context("exit status")?),
        ["kill", name] => Step::Kill(format!("SIG{name}").parse()?),
        ["print", text] => Step::Print(text.into()),
        ["eprint", text] => Step::Eprint(text.into()),
        ["lines", count] => Step::Lines(count.parse().context("number of lines")?),
        ["write", path, text] => Step::Write(path.into(), text.into()),
        ["append", path, text] => Step::Append(path.into(), text.into()),
        ["read", path] => Step::Read(path.into()),
        ["echo-line"] => Step::EchoLine,
        ["wait-file", path] => Step::WaitFile(path.into()),
        ["until-term"] => Step::UntilTerm,
        ["ignore-term"] => Step::IgnoreTerm,
        ["until-size", rows, columns] => Step::UntilSize(rows.parse()?, columns.parse()?),
        ["hang"] => Step::Hang,
        ["notify", message] => Step::Notify(message.into()),
        ["until-orphan"] => Step::UntilOrphan,
        ["call", ref numbers @ ..] => {
            let numbers = numbers.iter().map(|number| number.parse());
            Step::Call(
                numbers
                    .collect::<Result<_, _>>()
                    .context("number of a system call")?,
            )
        }
        ["spawn", ref rest @ ..] => Step::Spawn(rest.iter().map(|&word| word.into()).collect()),
        ["without", call, ref rest @ ..] if !rest.is_empty() => {
            let program = rest.iter().map(|&word| word.into()).collect();
            Step::Without(call.into(), program)
        }
        ["exec", ref rest @ ..] if !rest.is_empty() => {
            Step::Exec(rest.iter().map(|&word| word.into()).collect())
        }
        _ => match (Press::parse(&words)?, Talk::parse(&words)?) {
            (Some(press), _) => Step::Press(press),
            (None, Some(talk)) => Step::Talk(talk),
            (None, None) => bail!("no such step: {words:?}"),
        },
    })
}

impl Step {
    /// Does it; a number ends the program with that status.
    pub(super) fn run(&self) -> Result<Option<i32>> {
        let mut out = std::io::stdout();
        match self {
            Self::See(request) => gather::report(request)?,
            Self::Exit(status) => return Ok(Some(*status)),
            Self::Kill(signal) => {
                out.flush()?;
                raise(*signal)?;
            }
            Self::Print(text) => writeln!(out, "{text}")?,
            Self::Eprint(text) => writeln!(std::io::stderr(), "{text}")?,
            Self::Lines(count) => {
                (1..=*count).try_for_each(|line| writeln!(out, "line {line} of {count}"))?
            }
            Self::Write(path, text) => write_whole(path, text)?,
            Self::Append(path, text) => append(path, text)?,
            Self::Read(path) => {
                let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
                out.write_all(&bytes)?;
            }
            Self::EchoLine => writeln!(out, "echo: {}", read_line()?.trim_end())?,
            Self::WaitFile(path) => wait::for_path(path, None)?,
            Self::UntilTerm => {
                let signal = termination().wait().context("wait for a signal")?;
                writeln!(out, "got {signal}")?;
            }
            Self::IgnoreTerm => termination().thread_block().context("block signals")?,
            Self::Call(numbers) => numbers.iter().try_for_each(|number| {
                writeln!(out, "call {number}: {}", call::with_zeros(*number))
            })?,
            Self::UntilSize(rows, columns) => {
                until_size(*rows, *columns)?;
                writeln!(out, "size {rows} {columns}")?;
            }
            Self::Hang => loop {
                rustix::event::pause();
            },
            Self::Spawn(words) => spawn(words)?,
            Self::Notify(message) => notify::notify(message)?,
            Self::UntilOrphan => notify::until_orphan()?,
            Self::Press(press) => writeln!(out, "{}", press.run()?)?,
            Self::Talk(talk) => writeln!(out, "{}", talk.run()?)?,
            Self::Without(call, words) => {
                call::hide(call)?;
                return Step::Exec(words.clone()).run();
            }
            Self::Exec(words) => {
                out.flush()?;
                return Err(Command::new(&words[0]).args(&words[1..]).exec()).context("exec");
            }
        }
        out.flush()?;
        Ok(None)
    }
}

fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .context("read stdin")?;
    Ok(line)
}

/// Starts this program again with other steps, and goes on.
fn spawn(words: &[String]) -> Result<()> {
    let steps = words
        .iter()
        .map(|word| if word == "," { "+" } else { word });
    Command::new("/proc/self/exe")
        .arg("do")
        .args(steps)
        .spawn()
        .context("start a child")?;
    Ok(())
}

fn termination() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Makes termination signals wait for [`Step::UntilTerm`].
pub(super) fn hold_termination() -> Result<()> {
    termination().thread_block().context("block signals")
}

fn until_size(rows: u16, columns: u16) -> Result<()> {
    // A change is told to who is in the foreground then, which is the shell while this is stopped.
    let changes: SigSet = [Signal::SIGWINCH, Signal::SIGCONT].into_iter().collect();
    // Held back first: a change after the look waits.
    changes.thread_block().context("block signals")?;
    loop {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).context("size")?;
        if (size.ws_row, size.ws_col) == (rows, columns) {
            return Ok(());
        }
        changes.wait().context("wait for another size")?;
    }
}

pub(super) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text).with_context(|| format!("write {}", path.display()))?;
    fs::rename(&beside, path).with_context(|| format!("rename to {}", path.display()))
}

pub(super) fn append(path: &Path, text: &str) -> Result<()> {
    fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("append to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(line: &[&str]) -> Result<Vec<Step>> {
        parse(&line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn steps_in_order() {
        let line = [
            "do",
            "write",
            "/f",
            "a b",
            "+",
            "until-term",
            "+",
            "exit",
            "3",
        ];
        let expected = [
            Step::Write("/f".into(), "a b".into()),
            Step::UntilTerm,
            Step::Exit(3),
        ];
        assert_eq!(steps(&line).unwrap(), expected);
        assert_eq!(steps(&[]).unwrap(), [Step::See(Request::default())]);
    }

    #[test]
    fn one_step_takes_all_words() {
        assert_eq!(
            steps(&["exec", "/p", "+", "x"]).unwrap(),
            [Step::Exec(vec!["/p".into(), "+".into(), "x".into()])]
        );
        assert!(matches!(
            steps(&["see", "--out", "/o", "--", "+", "exit"]).unwrap()[..],
            [Step::See(_)]
        ));
    }

    #[test]
    fn mistakes() {
        for line in [
            &["dance"][..],
            &["exit"],
            &["exit", "x"],
            &["kill", "NOBODY"],
            &["see", "--out"],
            &["see", "--x", "/"],
            &["do"],
        ] {
            assert!(steps(line).is_err(), "{line:?}");
        }
    }
}
