//! Writes what a plan says. What is written is taken back when the writing stops half-way.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::copy;
use crate::plan::Step;
use crate::pod::names_in;
use crate::root::Root;

/// What was written so far. Dropped, everything is put back as it was, unless it is kept.
#[derive(Debug, Default)]
pub struct Applied(Vec<Undo>);

#[derive(Debug)]
enum Undo {
    /// A file, link or empty directory that was not there.
    Remove(PathBuf),
    /// A directory that was not there, with all in it.
    RemoveTree(PathBuf),
    /// A symlink that had this target.
    Link(PathBuf, PathBuf),
    /// A file that had this content.
    Restore(PathBuf, Vec<u8>, Permissions),
}

/// Takes the steps in order.
///
/// # Errors
/// The first step that fails; the steps before it have been taken back then.
pub fn apply(steps: &[Step]) -> Result<Applied> {
    let mut applied = Applied::default();
    for step in steps {
        applied
            .step(step)
            .with_context(|| format!("write {}", step.path().display()))?;
    }
    Ok(applied)
}

impl Applied {
    /// Leaves everything as written.
    pub fn keep(mut self) {
        self.0.clear();
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::File {
                path,
                content,
                mode,
            } => {
                self.parents(path)?;
                self.remember(path)?;
                write_whole(path, content, *mode)?;
            }
            Step::NoFile { path } => {
                if path.symlink_metadata().is_ok() {
                    self.remember(path)?;
                    fs::remove_file(path)?;
                }
            }
            Step::Link { path, target } => {
                self.parents(path)?;
                match fs::read_link(path) {
                    Ok(before) if before == *target => return Ok(()),
                    Ok(before) => {
                        fs::remove_file(path)?;
                        self.0.push(Undo::Link(path.clone(), before));
                    }
                    // Nothing, or something else that is not for us to remove: the next call tells.
                    Err(_) => {}
                }
                symlink(target, path)?;
                self.0.push(Undo::Remove(path.clone()));
                belong(path)?;
            }
            Step::Volume {
                path,
                mode,
                uid,
                gid,
                filled_from,
            } => {
                self.parents(path)?;
                let fill = |made: &Path| match filled_from {
                    Some((root, from)) => fill(made, root, from),
                    None => {
                        chown(made, Some(*uid), Some(*gid))?;
                        Ok(fs::set_permissions(made, Permissions::from_mode(*mode))?)
                    }
                };
                directory_whole(path, fill)?;
                self.0.push(Undo::RemoveTree(path.clone()));
            }
        }
        Ok(())
    }

    /// Makes the directories above `path` that are missing.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let Some(parent) = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty() && !p.exists())
        else {
            return Ok(());
        };
        self.parents(parent)?;
        DirBuilder::new()
            .create(parent)
            .with_context(|| format!("make {}", parent.display()))?;
        self.0.push(Undo::Remove(parent.to_owned()));
        belong(parent)
    }

    /// Notes what is to be done to have `path` as it is now.
    fn remember(&mut self, path: &Path) -> Result<()> {
        let undo = match fs::read(path) {
            Ok(content) => {
                Undo::Restore(path.to_owned(), content, fs::metadata(path)?.permissions())
            }
            Err(err) if err.kind() == ErrorKind::NotFound => Undo::Remove(path.to_owned()),
            Err(err) => return Err(err.into()),
        };
        self.0.push(undo);
        Ok(())
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        // Each is tried, whatever became of the ones before: this is the way back from an error already.
        for undo in self.0.drain(..).rev() {
            let _ = match undo {
                Undo::Remove(path) => fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)),
                Undo::RemoveTree(path) => fs::remove_dir_all(&path),
                Undo::Link(path, target) => symlink(target, path),
                Undo::Restore(path, content, permissions) => {
                    write_whole(&path, &content, permissions.mode() & 0o7777)
                        .map_err(std::io::Error::other)
                }
            };
        }
    }
}

/// The file that [`write_whole`] writes, and that is left when it is killed.
pub fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".new");
    Some(path.with_file_name(name))
}

/// Writes a file beside `path` and renames it there, so that a reader finds the old content or the new one, and a
/// link by that name is replaced rather than followed.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let beside = beside(path).context("no file name")?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options.custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits())?);
    let write = || -> Result<()> {
        let mut file = options
            .open(&beside)
            .with_context(|| format!("open {}", beside.display()))?;
        file.write_all(content)
            .with_context(|| format!("write {}", beside.display()))?;
        belong(&beside)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(&beside, path).with_context(|| format!("rename {}", beside.display()))
    };
    write().inspect_err(|_| {
        // The error that is reported is the one that came first.
        let _ = fs::remove_file(&beside);
    })
}

/// Gives what was made at `path` to the owner of the directory that it is in: in a pod with a user namespace all that is
/// there is its root's, who is nobody special on the host and could neither read nor replace what is another's.
pub fn belong(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let owner = |stat: fs::Metadata| (stat.uid(), stat.gid());
    let of_parent = owner(fs::metadata(parent.unwrap_or(Path::new(".")))?);
    if owner(path.symlink_metadata()?) != of_parent {
        let (uid, gid) = of_parent;
        lchown(path, Some(uid), Some(gid))
            .with_context(|| format!("give {} to {uid}:{gid}", path.display()))?;
    }
    Ok(())
}

/// Where [`directory_whole`] makes a directory, and what is left when it is killed. No volume has such a name.
fn hidden(path: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(HIDDEN);
    name.push(path.file_name()?);
    Some(path.with_file_name(name))
}

/// The beginning of the names of directories that are being made.
const HIDDEN: &str = ".";

/// Makes a directory beside `path` and renames it there, so that there is never one that is not as it should be.
fn directory_whole(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let made = hidden(path).context("no file name")?;
    fs::create_dir(&made)?;
    let whole = fill(&made).and_then(|()| {
        // An empty directory would be replaced.
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let cwd = rustix::fs::CWD;
        Ok(rustix::fs::renameat_with(cwd, &made, cwd, path, flags)?)
    });
    whole.inspect_err(|_| {
        // The error that is reported is the one that came first.
        let _ = fs::remove_dir_all(&made);
    })
}

/// Removes what a killed [`apply`] has left of volumes in the folder of all volumes `dir`. Nobody else may be at work there.
///
/// # Errors
/// When one cannot be removed; the message names it.
pub fn remove_unfinished_volumes(dir: &Path) -> Result<()> {
    for name in names_in(dir).with_context(|| format!("list {}", dir.display()))? {
        if name.starts_with(HIDDEN) {
            let path = dir.join(name);
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Fills a volume with the files of an image, its directory's mode and owner too.
fn fill(volume: &Path, root: &Path, from: &Path) -> Result<()> {
    let root = Root::open(root).with_context(|| format!("open {}", root.display()))?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    match root.open_at(from, flags) {
        Ok(from) => copy::directory(&from, &fs::File::open(volume)?),
        // The image has nothing there, or no directory: nothing to start with.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(err) => Err(err).with_context(|| format!("open {} in the image", from.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: PathBuf, content: &str) -> Step {
        Step::File {
            path,
            content: content.into(),
            mode: 0o640,
        }
    }

    #[test]
    fn writes_and_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        let link = dir.path().join("a/l");
        let steps = [
            file(path.clone(), "x"),
            Step::Link {
                path: link.clone(),
                target: "b/c".into(),
            },
        ];
        apply(&steps).unwrap().keep();
        assert_eq!(fs::read_to_string(&link).unwrap(), "x");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
    }

    #[test]
    fn links_are_replaced_and_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        symlink("before", &path).unwrap();
        let step = Step::Link {
            path: path.clone(),
            target: "after".into(),
        };
        let applied = apply(&[step]).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("after"));
        drop(applied);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("before"));
    }

    #[test]
    fn a_failure_takes_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        let gone = dir.path().join("gone");
        fs::write(&old, "before").unwrap();
        fs::write(&gone, "was here").unwrap();
        let volume = Step::Volume {
            path: dir.path().join("v/data"),
            mode: 0o700,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            filled_from: None,
        };
        let steps = [
            file(old.clone(), "after"),
            Step::NoFile { path: gone.clone() },
            file(dir.path().join("new/x"), "x"),
            volume,
            // A directory cannot be made below a file.
            file(old.join("below"), "x"),
        ];
        let error = format!("{:#}", apply(&steps).unwrap_err());
        assert!(
            error.starts_with(&format!("write {}/below: ", old.display())),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
        assert_eq!(fs::read_to_string(&gone).unwrap(), "was here");
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["gone", "old"]);
    }
}
