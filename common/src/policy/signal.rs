//! The signal that asks an app to end.

use std::fmt;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::signal::Signal;

/// A signal, by the name that systemd has for it: `SIGTERM`, `SIGRTMIN+3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSignal(String);

impl StopSignal {
    /// Reads a name (`SIGQUIT`, `QUIT`, `SIGRTMIN+3`) or a number, as docker does in `STOPSIGNAL`.
    ///
    /// # Errors
    /// What is no signal; the message has the text.
    pub fn parse(text: &str) -> Result<Self> {
        let bare = text.trim().to_ascii_uppercase();
        let bare = bare.strip_prefix("SIG").unwrap_or(&bare);
        let number = bare.parse().ok().and_then(by_number);
        let found = number.or_else(|| real_time(bare)).or_else(|| {
            let signal: Option<Signal> = format!("SIG{bare}").parse().ok();
            signal.map(|signal| signal.as_str().to_owned())
        });
        found.map(StopSignal).with_context(|| {
            format!("{text:?} must be a signal (SIGTERM, SIGQUIT, SIGRTMIN+3, or a number)")
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether systemd takes an app that it ends for one that ended well without being told so (systemd.service(5),
    /// `SuccessExitStatus=`).
    pub fn is_clean_to_systemd(&self) -> bool {
        ["SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE"].contains(&self.name())
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        StopSignal(Signal::SIGTERM.as_str().to_owned())
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn by_number(number: i32) -> Option<String> {
    if let Ok(signal) = Signal::try_from(number) {
        return Some(signal.as_str().to_owned());
    }
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    (first..=last)
        .contains(&number)
        .then(|| named(number - first))
}

/// `RTMIN`, `RTMIN+N`, `RTMAX`, `RTMAX-N`.
fn real_time(bare: &str) -> Option<String> {
    let count = libc::SIGRTMAX() - libc::SIGRTMIN();
    let offset = |rest: &str, sign| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let above = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest, '+')?,
        (_, Some(rest)) => count - offset(rest, '-')?,
        _ => return None,
    };
    (0..=count).contains(&above).then(|| named(above))
}

fn named(above: i32) -> String {
    match above {
        0 => "SIGRTMIN".to_owned(),
        above => format!("SIGRTMIN+{above}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let name = |text: &str| StopSignal::parse(text).unwrap().to_string();
        for (text, expected) in [
            ("SIGQUIT", "SIGQUIT"),
            ("quit", "SIGQUIT"),
            ("3", "SIGQUIT"),
            ("SIGRTMIN+3", "SIGRTMIN+3"),
            ("RTMIN", "SIGRTMIN"),
            ("37", "SIGRTMIN+3"),
            ("SIGRTMAX", "SIGRTMIN+30"),
            ("SIGRTMAX-1", "SIGRTMIN+29"),
            ("64", "SIGRTMIN+30"),
        ] {
            assert_eq!(name(text), expected, "{text}");
        }
        assert_eq!(StopSignal::default().name(), "SIGTERM");
    }

    #[test]
    fn what_is_no_signal() {
        for text in [
            "", "SIG", "NOBODY", "0", "33", "65", "-1", "RTMIN+31", "RTMAX-31", "RTMIN3",
        ] {
            assert!(StopSignal::parse(text).is_err(), "{text}");
        }
    }
}
