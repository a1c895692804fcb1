//! Splits the command line of `run`, `prepare` and `app add` into the part of the pod and the parts of its apps.
//!
//! ```text
//! [POD OPTIONS] IMAGE [APP OPTIONS] [-- ARGS…] [--- IMAGE [APP OPTIONS] [-- ARGS…]]…
//! ```
//!
//! clap cannot express options that belong to the positional before them, so the words are sorted here and each part is
//! then parsed by clap. Options of the pod may stand anywhere. An option that both know (`--mount`) is the pod's before
//! an image and the app's after one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use clap::{Arg, Command};

/// A command line in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// Options of the pod and of stage0, and words that nobody knows.
    pub(super) pod: Vec<OsString>,
    /// The apps, in order.
    pub(super) apps: Vec<AppWords>,
}

/// The words of one app.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AppWords {
    /// Which image.
    pub(super) image: OsString,
    /// Options, to be parsed.
    pub(super) options: Vec<OsString>,
    /// Arguments for the program, verbatim.
    pub(super) args: Vec<OsString>,
}

/// The options that clap commands know, and which of them take the next word as their value.
struct Known<'c>(Vec<&'c Command>);

impl Known<'_> {
    fn find(&self, long: &str) -> Option<&Arg> {
        let mut args = self.0.iter().flat_map(|command| command.get_arguments());
        args.find(|arg| {
            arg.get_long() == Some(long)
                || arg
                    .get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&long))
        })
    }
}

/// Sorts `words`, of which the first `leading` that are no options are the pod's, too. `pod` and `globals` are the commands that know the options of the pod, `app` knows those of an app.
pub(super) fn split(
    words: impl IntoIterator<Item = OsString>,
    leading: usize,
    pod: &[&Command],
    app: &Command,
) -> Result<Split> {
    let (pod, app) = (Known(pod.to_vec()), Known(vec![app]));
    let mut words = words.into_iter();
    let mut leading = leading;
    let mut split = Split::default();
    // Whether options now have an app to belong to: the last one.
    let mut open = false;
    while let Some(word) = words.next() {
        let any = !split.apps.is_empty();
        let current = split.apps.last_mut().filter(|_| open);
        match (word.as_bytes(), current) {
            (b"--", Some(current)) => {
                let args = words.by_ref().take_while(|word| word != "---");
                current.args.extend(args);
                open = false;
            }
            (b"---", _) if any => open = false,
            (b"--" | b"---", _) => bail!("'{}': must follow an image", word.to_string_lossy()),
            (bytes, current) if bytes.starts_with(b"-") => {
                let text = word.to_string_lossy().into_owned();
                let long = text.strip_prefix("--").unwrap_or_default();
                let (name, inline) = match long.split_once('=') {
                    Some((name, _)) => (name, true),
                    None => (long, false),
                };
                let (of_pod, of_app) = (pod.find(name), app.find(name));
                let target = match (of_pod, of_app, current) {
                    (_, Some(_), Some(current)) => &mut current.options,
                    (None, Some(_), None) => bail!("--{name}: must follow an image"),
                    _ => &mut split.pod,
                };
                target.push(word);
                if !inline && of_pod.or(of_app).is_some_and(takes_next_word) {
                    target.extend(words.next());
                }
            }
            _ if leading > 0 => {
                leading -= 1;
                split.pod.push(word);
            }
            _ => {
                split.apps.push(AppWords {
                    image: word,
                    ..AppWords::default()
                });
                open = true;
            }
        }
    }
    Ok(split)
}

/// Whether the value of `--option` is the word after it.
pub(super) fn takes_next_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(Into::into).collect()
    }

    fn run(text: &str) -> Result<Split> {
        run_after(0, text)
    }

    fn run_after(leading: usize, text: &str) -> Result<Split> {
        let value = |name: &'static str| Arg::new(name).long(name).num_args(1);
        let pod = Command::new("pod")
            .arg(value("volume"))
            .arg(value("mount"))
            .arg(
                Arg::new("net")
                    .long("net")
                    .num_args(0..=1)
                    .require_equals(true),
            );
        let globals = Command::new("stage0")
            .arg(value("dir"))
            .arg(Arg::new("debug").long("debug").action(ArgAction::SetTrue));
        let app = Command::new("app")
            .arg(value("mount"))
            .arg(value("name").alias("nom"))
            .arg(
                Arg::new("ro")
                    .long("ro")
                    .num_args(0..=1)
                    .require_equals(true),
            );
        split(words(text), leading, &[&pod, &globals], &app)
    }

    /// `POD | IMAGE OPTIONS | ARGS | IMAGE…`, to compare at a glance.
    fn shown(split: &Split) -> String {
        let join = |words: &[OsString]| {
            let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
            words.join(" ")
        };
        let mut out = vec![join(&split.pod)];
        for app in &split.apps {
            let mut head = vec![app.image.clone()];
            head.extend(app.options.clone());
            out.push(join(&head));
            out.push(join(&app.args));
        }
        out.join(" | ")
    }

    #[test]
    fn sorts_words() {
        for (input, expected) in [
            ("", ""),
            ("img", " | img | "),
            ("a b", " | a |  | b | "),
            ("--dir d --debug img", "--dir d --debug | img | "),
            ("--dir=d img --name n", "--dir=d | img --name n | "),
            ("img --nom n", " | img --nom n | "),
            ("img --ro b", " | img --ro |  | b | "),
            ("--net img", "--net | img | "),
            ("--net=host img --ro=true", "--net=host | img --ro=true | "),
            ("img -- --name x -- y", " | img | --name x -- y"),
            ("img --", " | img | "),
            ("a -- 1 --- b -- 2", " | a | 1 | b | 2"),
            ("a --- b", " | a |  | b | "),
            ("a -- 1 ---", " | a | 1"),
            ("--mount p a --mount q", "--mount p | a --mount q | "),
            ("a --volume v b", "--volume v | a |  | b | "),
            ("a --- --mount p b", "--mount p | a |  | b | "),
            ("a -- 1 --- --debug b", "--debug | a | 1 | b | "),
            ("--nope img", "--nope | img | "),
            ("-h img", "-h | img | "),
            ("img --name", " | img --name | "),
            ("img --name -- x", " | img --name -- |  | x | "),
        ] {
            assert_eq!(shown(&run(input).unwrap()), expected, "{input:?}");
        }
    }

    #[test]
    fn leading_words_are_the_pods() {
        for (input, expected) in [
            ("uuid img --name n -- x", "uuid | img --name n | x"),
            ("--dir d uuid --debug img", "--dir d uuid --debug | img | "),
            ("uuid", "uuid"),
        ] {
            assert_eq!(shown(&run_after(1, input).unwrap()), expected, "{input:?}");
        }
        let error = run_after(1, "uuid -- x").unwrap_err().to_string();
        assert_eq!(error, "'--': must follow an image");
    }

    #[test]
    fn refuses_what_belongs_to_no_image() {
        for (input, expected) in [
            ("-- x", "'--': must follow an image"),
            ("--- x", "'---': must follow an image"),
            ("--name n img", "--name: must follow an image"),
            ("--ro img", "--ro: must follow an image"),
            ("a -- 1 --- --name n b", "--name: must follow an image"),
            ("a --- -- 1", "'--': must follow an image"),
        ] {
            assert_eq!(run(input).unwrap_err().to_string(), expected, "{input:?}");
        }
    }
}
