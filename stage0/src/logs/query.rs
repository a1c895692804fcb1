//! What is read of a journal, and in which order.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::entry::{self, Entry, FIELDS};
use super::follow;
use super::journalctl::{Reading, path_for_child};
use super::{Show, Source, Wanted, option};

/// Shows all that is wanted.
pub(super) fn run(source: &Source<'_>, wanted: &Wanted, show: &mut Show) -> Result<()> {
    let Some(folder) = &source.folder else {
        return Ok(());
    };
    let folder = path_for_child(folder);
    let mut query = Query {
        source,
        folder,
        wanted,
        after: None,
    };
    if let Some(count) = wanted.tail {
        query
            .newest(count)?
            .iter()
            .try_for_each(|entry| show.entry(entry))?;
        if !wanted.follow {
            return Ok(());
        }
        show.flush()?;
    }
    match wanted.follow {
        true => follow::run(&mut query, show),
        false => query.rest(show),
    }
}

/// A reading of a journal that knows how far it has come.
pub(super) struct Query<'a> {
    pub(super) source: &'a Source<'a>,
    folder: PathBuf,
    wanted: &'a Wanted,
    /// The cursor of the last entry that was read.
    after: Option<String>,
}

impl Query<'_> {
    /// Shows what there is behind what was read.
    pub(super) fn rest(&mut self, show: &mut Show) -> Result<()> {
        let mut reading = self.start(&[])?;
        self.read(&mut reading, show)?;
        reading.finish()
    }

    /// Starts reading behind what was read.
    pub(super) fn start(&self, more: &[&str]) -> Result<Reading> {
        let mut arguments = self.arguments();
        match (&self.after, self.wanted.since) {
            (Some(cursor), _) => arguments.push(option("after-cursor", cursor)),
            (None, Some(since)) => arguments.push(option("since", at(since))),
            (None, None) => {}
        }
        arguments.extend(more.iter().map(OsString::from));
        self.source.journalctl.start(&self.folder, arguments)
    }

    /// Shows what comes from `reading`, to its end.
    pub(super) fn read(&mut self, reading: &mut Reading, show: &mut Show) -> Result<()> {
        let mut stdout = reading.output()?;
        while let Some(entry) = entry::read(&mut stdout).context("read from journalctl")? {
            let again = self.after.as_ref().is_some_and(|c| entry.is_again(c));
            if self.wants(&entry) && !again {
                show.entry(&entry)?;
            }
            self.after = Some(entry.cursor);
            if stdout.buffer().is_empty() {
                show.flush()?;
            }
        }
        Ok(())
    }

    /// The newest entries, no more than `count`, read from the end.
    fn newest(&mut self, count: usize) -> Result<VecDeque<Entry>> {
        let mut arguments = self.arguments();
        arguments.push("--reverse".into());
        let mut reading = self.source.journalctl.start(&self.folder, arguments)?;
        let mut stdout = reading.output()?;
        let mut newest = VecDeque::new();
        let mut behind = String::new();
        while let Some(entry) = entry::read(&mut stdout).context("read from journalctl")? {
            self.after.get_or_insert_with(|| entry.cursor.clone());
            if newest.len() == count || self.wanted.since.is_some_and(|since| entry.time < since) {
                // The rest is not read.
                return Ok(newest);
            }
            let again = entry.is_again(&behind);
            behind.clone_from(&entry.cursor);
            if self.wants(&entry) && !again {
                newest.push_front(entry);
            }
        }
        reading.finish()?;
        Ok(newest)
    }

    fn wants(&self, entry: &Entry) -> bool {
        entry.is_output()
            // With a cursor journalctl takes no time.
            && self.wanted.since.is_none_or(|since| entry.time >= since)
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![
            "--output=export".into(),
            option("output-fields", FIELDS),
            format!("STAGE1_POD_UUID={}", self.source.seen.pod.uuid).into(),
        ];
        let app = self.wanted.app.iter();
        arguments.extend(app.map(|app| format!("STAGE1_APP={app}").into()));
        arguments
    }
}

/// A time as `journalctl` takes it (systemd.time(7)).
fn at(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("@{}.{:06}", since.as_secs(), since.subsec_micros())
}
