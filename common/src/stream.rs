//! Where the standard streams of an app lead: the modes of the contract ("Markers in manifests"), and which of the streams
//! the pod's `iottymux` serves.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::annotation;

/// Where one stream leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nowhere.
    Null,
    /// To the pod's journal.
    Log,
    /// To the caller's terminal.
    Interactive,
    /// To who attaches.
    Stream,
    /// To a terminal of the app's own, to which others attach.
    Tty,
}

impl Mode {
    /// The word for it in annotations and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Null => "null",
            Mode::Log => "log",
            Mode::Interactive => "interactive",
            Mode::Stream => "stream",
            Mode::Tty => "tty",
        }
    }

    /// Whether one can attach to it.
    pub fn is_attachable(self) -> bool {
        matches!(self, Mode::Stream | Mode::Tty)
    }
}

/// The modes of standard input, and of standard output and error.
pub const INPUT_MODES: [Mode; 4] = [Mode::Null, Mode::Interactive, Mode::Stream, Mode::Tty];
/// See [`INPUT_MODES`].
pub const OUTPUT_MODES: [Mode; 5] = [
    Mode::Log,
    Mode::Null,
    Mode::Interactive,
    Mode::Stream,
    Mode::Tty,
];

/// The modes of an app's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modes {
    /// Of standard input.
    pub stdin: Mode,
    /// Of standard output.
    pub stdout: Mode,
    /// Of standard error.
    pub stderr: Mode,
}

impl Modes {
    /// The modes that an app's annotations ask for.
    ///
    /// # Errors
    /// A mode that there is not, and modes that do not go together; the message names the annotation.
    pub fn read<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let read = |name: &str, known: &[Mode], default| match annotation(name) {
            None | Some("") => Ok(default),
            Some(text) => match known.iter().find(|mode| mode.as_str() == text) {
                Some(mode) => Ok(*mode),
                None => bail!("annotation {name}: unknown mode {text:?}"),
            },
        };
        let modes = Modes {
            stdin: read(annotation::STDIN, &INPUT_MODES, Mode::Null)?,
            stdout: read(annotation::STDOUT, &OUTPUT_MODES, Mode::Log)?,
            stderr: read(annotation::STDERR, &OUTPUT_MODES, Mode::Log)?,
        };
        modes.check()?;
        Ok(modes)
    }

    /// All three of the same mode.
    pub fn all(mode: Mode) -> Self {
        Modes {
            stdin: mode,
            stdout: mode,
            stderr: mode,
        }
    }

    /// Whether one of the streams has this mode.
    pub fn any(self, mode: Mode) -> bool {
        [self.stdin, self.stdout, self.stderr].contains(&mode)
    }

    fn check(self) -> Result<()> {
        if self.any(Mode::Interactive) && self != Modes::all(Mode::Interactive) {
            bail!(
                "annotation {}: mode interactive needs all three streams",
                annotation::STDIN
            );
        }
        let named = [
            (annotation::STDIN, self.stdin),
            (annotation::STDOUT, self.stdout),
            (annotation::STDERR, self.stderr),
        ];
        let stream = named.iter().find(|(_, mode)| *mode == Mode::Stream);
        if let (true, Some((name, _))) = (self.any(Mode::Tty), stream) {
            bail!("annotation {name}: mode stream does not go with tty for another stream");
        }
        Ok(())
    }
}

/// What `iottymux` holds the other end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The app's terminal.
    Tty,
}

impl Target {
    /// All of them, in the order in which prepare-app hands them over.
    pub const ALL: [Target; 4] = [Target::Stdin, Target::Stdout, Target::Stderr, Target::Tty];

    /// Its name among the endpoints of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Target::Stdin => "stdin",
            Target::Stdout => "stdout",
            Target::Stderr => "stderr",
            Target::Tty => "tty",
        }
    }
}

/// Where a log of what `iottymux` reads goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Log {
    /// To the pod's journal.
    Journal {
        /// The pod, for the journal's field `STAGE1_POD_UUID`.
        uuid: String,
    },
    /// To a file for Kubernetes.
    Cri {
        /// Its path below [`crate::pod::StageRoot::kubernetes_log`].
        path: String,
    },
}

/// The streams of an app that `iottymux` serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Served {
    /// The modes of all its streams.
    pub modes: Modes,
    /// Where its output is logged.
    pub log: Log,
    /// Whether what one can attach to is logged too.
    pub log_attachable: bool,
}

impl Served {
    /// What `iottymux` gets from prepare-app, in this order.
    pub fn targets(&self) -> Vec<Target> {
        let served = |mode| matches!(mode, Mode::Stream | Mode::Log);
        self.of(served)
    }

    /// To what one can attach.
    pub fn endpoints(&self) -> Vec<Target> {
        self.of(|mode| mode == Mode::Stream)
    }

    /// Where a stream of output is logged.
    pub fn log_of(&self, target: Target) -> Option<&Log> {
        let attachable = self.endpoints().contains(&target);
        (self.log_attachable || !attachable).then_some(&self.log)
    }

    /// The streams of certain modes, and the terminal.
    fn of(&self, is: impl Fn(Mode) -> bool) -> Vec<Target> {
        let of = |target: &Target| match target {
            Target::Stdin => is(self.modes.stdin),
            Target::Stdout => is(self.modes.stdout),
            Target::Stderr => is(self.modes.stderr),
            Target::Tty => self.modes.any(Mode::Tty),
        };
        Target::ALL.into_iter().filter(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(modes: [&'static str; 3]) -> Result<Modes, String> {
        let [stdin, stdout, stderr] = modes;
        Modes::read(|name| match name {
            annotation::STDIN => Some(stdin),
            annotation::STDOUT => Some(stdout),
            _ => Some(stderr),
        })
        .map_err(|err| err.to_string())
    }

    #[test]
    fn modes_and_what_goes_together() {
        let modes = read(["", "", ""]).unwrap();
        assert_eq!(
            (modes.stdin, modes.stdout, modes.stderr),
            (Mode::Null, Mode::Log, Mode::Log)
        );
        read(["stream", "log", "null"]).unwrap();
        read(["tty", "tty", "log"]).unwrap();
        read(["null", "tty", "null"]).unwrap();
        read(["interactive"; 3]).unwrap();
        for (modes, part) in [
            (["log", "", ""], "stage2/stdin: unknown mode \"log\""),
            (["", "x", ""], "stage2/stdout: unknown mode \"x\""),
            (["", "", "Tty"], "stage2/stderr: unknown mode \"Tty\""),
            (["interactive", "", ""], "needs all three streams"),
            (["", "tty", "interactive"], "needs all three streams"),
            (
                ["stream", "tty", ""],
                "stage2/stdin: mode stream does not go with tty",
            ),
            (
                ["tty", "tty", "stream"],
                "stage2/stderr: mode stream does not go with tty",
            ),
        ] {
            let error = read(modes).unwrap_err();
            assert!(error.contains(part), "{modes:?}: {error}");
        }
    }

    #[test]
    fn what_is_served() {
        let served = |modes, log_attachable| Served {
            modes: read(modes).unwrap(),
            log: Log::Cri {
                path: "0.log".into(),
            },
            log_attachable,
        };
        let default = served(["", "", ""], false);
        assert_eq!(default.targets(), [Target::Stdout, Target::Stderr]);
        assert_eq!(default.endpoints(), []);
        assert_eq!(default.log_of(Target::Stderr), Some(&default.log));
        assert_eq!(
            served(["stream"; 3], true).targets(),
            [Target::Stdin, Target::Stdout, Target::Stderr]
        );
        let terminal = served(["tty", "tty", "null"], true);
        assert_eq!(terminal.targets(), [Target::Tty]);
        assert_eq!(terminal.log_of(Target::Tty), Some(&terminal.log));
        let mixed = served(["null", "log", "stream"], false);
        assert_eq!(mixed.targets(), [Target::Stdout, Target::Stderr]);
        assert_eq!(mixed.endpoints(), [Target::Stderr]);
        assert_eq!(mixed.log_of(Target::Stdout), Some(&mixed.log));
        assert_eq!(mixed.log_of(Target::Stderr), None);
        assert_eq!(served(["", "null", "null"], true).targets(), []);
        assert_eq!(served(["interactive"; 3], true).targets(), []);
    }
}
