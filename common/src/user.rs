//! The user and groups of an app, found in its own root file system, and the records that the pod's own
//! passwd and group files need of them.
//!
//! The image's files are read here rather than through NSS: a static program's NSS would load the libraries of
//! whatever root it runs in, and ask the wrong files.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::appc::App;
use crate::id_range::IdRange;
use crate::root::Root;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Who an app runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary group ids, without repetition.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Finds who `app` runs as (appc specification, "user", "group"): a name of the image's passwd or group
    /// file, a number, or the owner of an absolute path in the image.
    ///
    /// `users` are the pod's ids when it has a user namespace: the root shows those of the host.
    /// `group_defaults_to_uid`: a group that cannot be found is the number of the user, as in images that
    /// were converted from Docker's.
    pub fn of_app(
        app: &App,
        root: &Root,
        users: Option<IdRange>,
        group_defaults_to_uid: bool,
    ) -> Result<Self> {
        let of_pod = |id: u32| users.map_or(Ok(id), |users| users.to_pod(id));
        let valid = |id: u32| valid(id, users);
        let uid = find(root, &app.user, PASSWD, |stat| of_pod(stat.st_uid))
            .and_then(valid)
            .with_context(|| format!("user {:?}", app.user))?;
        let gid = match find(root, &app.group, GROUP, |stat| of_pod(stat.st_gid)) {
            Err(_) if group_defaults_to_uid => uid,
            found => found
                .and_then(valid)
                .with_context(|| format!("group {:?}", app.group))?,
        };
        let groups = app.supplementary_gids.iter().map(|gid| valid(*gid));
        let groups: BTreeSet<u32> = groups.collect::<Result<_>>().context("supplementaryGIDs")?;
        Ok(Identity {
            uid,
            gid,
            groups: groups.into_iter().collect(),
        })
    }
}

fn find(
    root: &Root,
    who: &str,
    file: &str,
    owner: impl Fn(&rustix::fs::Stat) -> Result<u32>,
) -> Result<u32> {
    if who.starts_with('/') {
        let stat = root
            .stat(Path::new(who))
            .context("look up its owner in the image")?;
        return owner(stat.as_ref().context("no such path in the image")?);
    }
    let content = root
        .read(Path::new(file))
        .with_context(|| format!("read {file} of the image"))?;
    // Not every image's file is UTF-8; names that are asked for are.
    let content = String::from_utf8_lossy(content.as_deref().unwrap_or_default());
    // Both files have the name first and the id third (passwd(5), group(5)).
    for line in content.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(who) {
            let id = fields.nth(1).and_then(|id| id.parse().ok());
            return id.with_context(|| format!("{file} of the image: no valid number in {line:?}"));
        }
    }
    match who.parse() {
        Ok(id) => Ok(id),
        Err(_) => bail!("not in {file} of the image, and not a number"),
    }
}

/// (uid_t) -1 means "leave as it is" to setresuid(2), so that an app would stay root; systemd refuses it, and the -1
/// of the time when ids had 16 bits.
fn valid(id: u32, users: Option<IdRange>) -> Result<u32> {
    const OLD_MINUS_ONE: u32 = u16::MAX as u32;
    if matches!(id, u32::MAX | OLD_MINUS_ONE) {
        bail!("{id} is not a valid id");
    }
    users.map_or(Ok(id), |users| users.to_host(id).map(|_| id))
}

/// The pod's own passwd and group files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// Content of `/etc/passwd`.
    pub passwd: String,
    /// Content of `/etc/group`.
    pub group: String,
}

impl Accounts {
    /// The files with what they hold already (`passwd`, `group`) and a record for each id of `identities`
    /// that has none: systemd starts no service as a user or group without one, numeric ones included.
    pub fn with(passwd: &str, group: &str, identities: &[Identity]) -> Self {
        let mut accounts = Accounts {
            passwd: passwd.to_owned(),
            group: group.to_owned(),
        };
        let uids: BTreeSet<_> = identities.iter().map(|i| (i.uid, i.gid)).collect();
        let gids: BTreeSet<_> = identities
            .iter()
            .flat_map(|i| i.groups.iter().chain([&i.gid]))
            .collect();
        for (uid, gid) in uids {
            if !has_id(&accounts.passwd, uid) {
                accounts
                    .passwd
                    .push_str(&format!("app{uid}:x:{uid}:{gid}::/:\n"));
            }
        }
        for &gid in gids {
            if !has_id(&accounts.group, gid) {
                accounts.group.push_str(&format!("app{gid}:x:{gid}:\n"));
            }
        }
        accounts
    }
}

impl Accounts {
    /// The files with the records that [`Accounts::with`] made only for ids that `identities` have.
    pub fn without_unused(passwd: &str, group: &str, identities: &[Identity]) -> Self {
        let uids: BTreeSet<_> = identities.iter().map(|i| i.uid).collect();
        let groups = identities
            .iter()
            .flat_map(|i| i.groups.iter().chain([&i.gid]));
        let gids: BTreeSet<_> = groups.copied().collect();
        Accounts {
            passwd: without_unused(passwd, &uids),
            group: without_unused(group, &gids),
        }
    }
}

fn without_unused(file: &str, used: &BTreeSet<u32>) -> String {
    let keep = |line: &&str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next(), fields.nth(1));
        let id: Option<u32> = id.and_then(|id| id.parse().ok());
        let made = id.filter(|id| name == Some(format!("app{id}").as_str()));
        made.is_none_or(|id| used.contains(&id))
    };
    file.split_inclusive('\n').filter(keep).collect()
}

fn has_id(file: &str, id: u32) -> bool {
    file.lines()
        .any(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/:\nredis:x:101:103::/:\nbad:x\n7:x:70:70::/:\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nredis:x:103:\n").unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn app(user: &str, group: &str) -> App {
        App {
            user: user.into(),
            group: group.into(),
            supplementary_gids: vec![9, 8, 9],
            ..App::default()
        }
    }

    #[test]
    fn by_name_number_and_path() {
        let (_dir, root) = image();
        let found = |user, group| {
            Identity::of_app(&app(user, group), &root, None, false).map(|i| (i.uid, i.gid))
        };
        assert_eq!(found("redis", "redis").unwrap(), (101, 103));
        assert_eq!(found("1000", "root").unwrap(), (1000, 0));
        // A name that looks like a number is a name first.
        assert_eq!(found("7", "7").unwrap(), (70, 7));
        let own = rustix::process::getuid().as_raw();
        assert_eq!(found("/file", "0").unwrap(), (own, 0));
        assert_eq!(
            Identity::of_app(&app("0", "0"), &root, None, false)
                .unwrap()
                .groups,
            [8, 9]
        );
    }

    #[test]
    fn errors_name_what_was_searched() {
        let (_dir, root) = image();
        let error = |user, group| {
            format!(
                "{:#}",
                Identity::of_app(&app(user, group), &root, None, false).unwrap_err()
            )
        };
        assert_eq!(
            error("nobody", "0"),
            "user \"nobody\": not in /etc/passwd of the image, and not a number"
        );
        assert_eq!(
            error("0", "wheel"),
            "group \"wheel\": not in /etc/group of the image, and not a number"
        );
        assert_eq!(
            error("/none", "0"),
            "user \"/none\": no such path in the image"
        );
        assert_eq!(
            error("bad", "0"),
            "user \"bad\": /etc/passwd of the image: no valid number in \"bad:x\""
        );
        assert_eq!(
            error("4294967295", "0"),
            "user \"4294967295\": 4294967295 is not a valid id"
        );
    }

    #[test]
    fn ids_of_a_user_namespace() {
        let (_dir, root) = image();
        let own = rustix::process::getuid().as_raw();
        let found = |user, shift, count| {
            let users = Some(IdRange { shift, count });
            let found = Identity::of_app(&app(user, "0"), &root, users, false);
            found.map(|i| i.uid).map_err(|err| format!("{err:#}"))
        };
        assert_eq!(found("redis", 5000, 102), Ok(101));
        assert_eq!(found("/file", own, 10), Ok(0));
        assert_eq!(
            found("redis", 5000, 101).unwrap_err(),
            "user \"redis\": 101 is none of the 101 ids of the pod's user namespace"
        );
        assert_eq!(
            found("/file", own + 1, 10).unwrap_err(),
            format!(
                "user \"/file\": the host's id {own} is outside of the pod's range {}:10",
                own + 1
            )
        );
    }

    #[test]
    fn groups_of_converted_images_default_to_the_uid() {
        let (_dir, root) = image();
        assert_eq!(
            Identity::of_app(&app("1000", "none"), &root, None, true)
                .unwrap()
                .gid,
            1000
        );
    }

    #[test]
    fn each_id_gets_one_record() {
        let one = Identity {
            uid: 101,
            gid: 103,
            groups: vec![8],
        };
        let two = Identity {
            uid: 101,
            gid: 104,
            groups: vec![0],
        };
        let accounts = Accounts::with("root:x:0:0::/:\n", "root:x:0:\n", &[one, two]);
        let passwd = "root:x:0:0::/:\napp101:x:101:103::/:\n";
        assert_eq!(accounts.passwd, passwd);
        assert_eq!(
            accounts.group,
            "root:x:0:\napp8:x:8:\napp103:x:103:\napp104:x:104:\n"
        );
        let one = Identity {
            uid: 0,
            gid: 8,
            groups: Vec::new(),
        };
        let left = Accounts::without_unused(passwd, &accounts.group, &[one]);
        assert_eq!(left.passwd, "root:x:0:0::/:\n");
        assert_eq!(left.group, "root:x:0:\napp8:x:8:\n");
    }
}
