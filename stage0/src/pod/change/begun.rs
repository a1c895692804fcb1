//! The change of a pod's apps that has begun and not ended.
//!
//! The file `change` of the pod directory tells it: `adding NAME` or `removing NAME`. It is the first thing that a change
//! makes and the last that it deletes, so whoever finds it without anybody holding the lock has to complete that change.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};
use common::appc::AcName;
use common::pod::PodDir;

use super::delete_file;
use crate::whole;

/// What is being done to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pod) enum Verb {
    /// It comes.
    Adding,
    /// It goes.
    Removing,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Removing => "removing",
        }
    }
}

/// A change of one app.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pod) struct Begun {
    pub(in crate::pod) verb: Verb,
    pub(in crate::pod) app: AcName,
}

impl Begun {
    /// What the pod in `dir` says of itself.
    pub(in crate::pod) fn read(dir: &PodDir) -> Result<Option<Self>> {
        let file = dir.change();
        let context = || format!("read {}", file.display());
        let text = match fs::read_to_string(&file) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(context)?,
        };
        Self::parse(&text)
            .with_context(|| format!("{text:?} is no change of an app"))
            .with_context(context)
            .map(Some)
    }

    fn parse(text: &str) -> Option<Self> {
        let (word, app) = text.trim_end().split_once(' ')?;
        let verbs = [Verb::Adding, Verb::Removing];
        Some(Self {
            verb: verbs.into_iter().find(|verb| verb.word() == word)?,
            app: app.parse().ok()?,
        })
    }

    /// Writes down that a change begins.
    pub(super) fn write(dir: &PodDir, verb: Verb, app: &str) -> Result<()> {
        whole::write(&dir.change(), format!("{} {app}\n", verb.word()).as_bytes())
    }

    /// It has ended.
    pub(super) fn end(dir: &PodDir) -> Result<()> {
        delete_file(&dir.change())
    }

    /// Fails if it is `app` that is being changed in the pod in `dir`.
    pub(super) fn must_not_be_of(dir: &PodDir, app: &str) -> Result<()> {
        match Self::read(dir)? {
            Some(begun) if begun.app.as_str() == app => {
                let done = match begun.verb {
                    Verb::Adding => "added",
                    Verb::Removing => "removed",
                };
                bail!("it is being {done}")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = PodDir::new(folder.path());
        assert_eq!(Begun::read(&dir).unwrap(), None);
        for verb in [Verb::Adding, Verb::Removing] {
            Begun::write(&dir, verb, "web").unwrap();
            let begun = Begun::read(&dir).unwrap().unwrap();
            assert_eq!((begun.verb, begun.app.as_str()), (verb, "web"));
            Begun::must_not_be_of(&dir, "web").unwrap_err();
            Begun::must_not_be_of(&dir, "other").unwrap();
        }
        Begun::end(&dir).unwrap();
        Begun::must_not_be_of(&dir, "web").unwrap();
        for text in ["", "adding", "adding ../web", "mending web"] {
            fs::write(dir.change(), text).unwrap();
            Begun::read(&dir).unwrap_err();
        }
    }
}
