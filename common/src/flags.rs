//! Command lines in the style of Go's `flag` package, which the contract asks of every entrypoint: one dash
//! or two; `--flag` and `--flag=true` for booleans, which never take a separate word; `--flag=value` and
//! `--flag value` for the others; the first other word, or `--`, ends the flags.

use std::collections::BTreeMap;

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A flag that the program does not know.
    #[error("unknown option --{0}, see --help")]
    Unknown(String),
    /// A flag without its value.
    #[error("--{0}: needs a value")]
    NoValue(String),
    /// A boolean with a value that is none.
    #[error("--{0}: {1:?} is not a boolean (true or false)")]
    NotBoolean(String, String),
    /// Not UTF-8.
    #[error("argument {0:?}: not valid UTF-8")]
    NotText(std::ffi::OsString),
}

/// One flag that a program knows.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What stands for its value in the help, or `None` for a boolean.
    pub value: Option<&'static str>,
    /// What it does, one line.
    pub help: &'static str,
}

/// A boolean flag.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        help,
    }
}

/// A flag with a value.
pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        help,
    }
}

/// A command line, read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Parsed {
    values: BTreeMap<&'static str, String>,
    /// The words after the flags.
    pub rest: Vec<String>,
    /// `-h` or `--help` was among the flags.
    pub help: bool,
}

impl Parsed {
    /// Whether a boolean is on.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|v| v == "true")
    }

    /// The value of a flag; given twice, the last counts.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Reads a command line, without the program's name.
pub fn parse(
    known: &[Flag],
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Parsed, FlagError> {
    let mut args = args
        .into_iter()
        .map(|arg| arg.into_string().map_err(FlagError::NotText));
    let mut parsed = Parsed::default();
    while let Some(arg) = args.next().transpose()? {
        let Some(flag) = arg
            .strip_prefix("--")
            .or(arg.strip_prefix('-'))
            .filter(|f| !f.is_empty())
        else {
            if arg != "--" {
                parsed.rest.push(arg);
            }
            break;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let Some(flag) = known.iter().find(|f| f.name == name) else {
            if name == "h" || name == "help" {
                parsed.help = true;
                continue;
            }
            return Err(FlagError::Unknown(name.to_owned()));
        };
        let value = match (flag.value, inline) {
            (None, None) => "true".to_owned(),
            (None, Some(value)) => boolean(name, &value)?.to_string(),
            (Some(_), Some(value)) => value,
            (Some(_), None) => args
                .next()
                .transpose()?
                .ok_or_else(|| FlagError::NoValue(name.to_owned()))?,
        };
        parsed.values.insert(flag.name, value);
    }
    for arg in args {
        parsed.rest.push(arg?);
    }
    Ok(parsed)
}

/// The values that Go's `strconv.ParseBool` takes.
fn boolean(name: &str, value: &str) -> Result<bool, FlagError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(FlagError::NotBoolean(name.to_owned(), value.to_owned())),
    }
}

/// The help text of a program: its usage line, what it is, its flags.
pub fn help(usage: &str, about: &str, known: &[Flag]) -> String {
    let left = |f: &Flag| match f.value {
        Some(value) => format!("--{}={value}", f.name),
        None => format!("--{}", f.name),
    };
    let width = known.iter().map(|f| left(f).len()).max().unwrap_or(0);
    let mut out = format!("Usage: {usage}\n\n{about}\n");
    if !known.is_empty() {
        out.push_str("\nOptions:\n");
    }
    for flag in known {
        out.push_str(&format!("  {:width$}  {}\n", left(flag), flag.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Flag; 3] = [
        switch("debug", ""),
        value("net", "NET", ""),
        value("local-config", "DIR", ""),
    ];

    fn parsed(args: &[&str]) -> Result<Parsed, String> {
        parse(&KNOWN, args.iter().map(Into::into)).map_err(|e| e.to_string())
    }

    #[test]
    fn every_spelling() {
        for args in [
            &["--debug", "--net", "none", "u"][..],
            &["-debug", "-net=none", "u"],
            &["--debug=true", "--net=none", "--", "u"],
            &["--debug=T", "--net=host", "--net=none", "u"],
        ] {
            let p = parsed(args).unwrap();
            assert!(p.is_set("debug"), "{args:?}");
            assert_eq!(p.value("net"), Some("none"), "{args:?}");
            assert_eq!(p.rest, ["u"], "{args:?}");
        }
    }

    #[test]
    fn booleans_take_no_separate_word() {
        let p = parsed(&["--debug", "false"]).unwrap();
        assert!(p.is_set("debug"));
        assert_eq!(p.rest, ["false"]);
        assert!(!parsed(&["--debug=0"]).unwrap().is_set("debug"));
    }

    #[test]
    fn the_first_other_word_ends_the_flags() {
        assert_eq!(parsed(&["u", "--debug"]).unwrap().rest, ["u", "--debug"]);
        assert_eq!(
            parsed(&["--", "--debug", "--"]).unwrap().rest,
            ["--debug", "--"]
        );
        assert_eq!(
            parsed(&["--net", "--debug"]).unwrap().value("net"),
            Some("--debug")
        );
    }

    #[test]
    fn errors_name_the_flag() {
        assert_eq!(
            parsed(&["--nope"]).unwrap_err(),
            "unknown option --nope, see --help"
        );
        assert_eq!(parsed(&["--net"]).unwrap_err(), "--net: needs a value");
        assert_eq!(
            parsed(&["--debug=x"]).unwrap_err(),
            "--debug: \"x\" is not a boolean (true or false)"
        );
    }
}
