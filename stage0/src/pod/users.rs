//! Which ids of the host a pod with a user namespace has. They are written down in its directory, where the next one that
//! looks for a range finds them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use common::appc::Uuid;
use common::id_range::IdRange;
use common::pod::PodDir;

use super::lock::Lock;
use super::{Place, Pods};
use crate::notice::warn;
use crate::whole;

/// How many ids a pod gets that asks for none in particular: 0 to 65535, all that images were ever made of.
const COUNT: u32 = 1 << 16;

/// The first and the last range that containers may have (systemd, "Users, Groups, UIDs and GIDs on systemd Systems").
const FIRST: u32 = 0x0008_0000;
const LAST: u32 = 0x6fff_0000;

/// Which ids a pod is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// A range that nobody has.
    Pick,
    /// This one.
    Given(IdRange),
}

impl Pods {
    /// Gives the pod in [`Place::Prepare`] a range of ids and writes it down.
    ///
    /// # Errors
    /// When all ranges are in use.
    pub fn give_ids(&self, uuid: &Uuid, users: Users, etc: &Path) -> Result<IdRange> {
        // Nobody looks for a range until this one is written down.
        let _turn = Lock::exclusive(&self.folder(Place::Prepare))?;
        let of_pods = self.ranges(uuid)?;
        let range = match users {
            Users::Given(range) => {
                if let Some((other, _)) = of_pods.iter().find(|(_, other)| range.overlaps(*other)) {
                    warn(format_args!(
                        "--private-users={range}: pod {other} has ids of it, too"
                    ));
                }
                range
            }
            Users::Pick => {
                let mut taken = of_host(etc)?;
                taken.extend(of_pods.iter().map(|(_, range)| *range));
                pick(uuid, &taken)?
            }
        };
        let file = self.dir(Place::Prepare, uuid).private_users_prepared();
        whole::write(&file, range.to_string().as_bytes())?;
        Ok(range)
    }

    /// The ranges of all other pods.
    fn ranges(&self, own: &Uuid) -> Result<Vec<(Uuid, IdRange)>> {
        let mut found = Vec::new();
        // One that is moved while it is looked for is found the second time, where it is then.
        for place in Place::ALL.into_iter().chain(Place::ALL) {
            for uuid in self.uuids_in(place)? {
                let known = uuid == *own || found.iter().any(|(other, _)| *other == uuid);
                if let (false, Some(range)) = (known, of_pod(&self.dir(place, &uuid))?) {
                    found.push((uuid, range));
                }
            }
        }
        Ok(found)
    }
}

/// The ids of a pod with a user namespace.
pub fn of_pod(pod: &PodDir) -> Result<Option<IdRange>> {
    let file = pod.private_users_prepared();
    let context = || format!("read {}", file.display());
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map(Some).with_context(context),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(context),
    }
}

/// The first free range from one that depends on the pod's UUID, which is random, on: pods of other data directories,
/// whose ranges are not known here, hardly get the same.
fn pick(uuid: &Uuid, taken: &[IdRange]) -> Result<IdRange> {
    let slots = (LAST - FIRST) / COUNT + 1;
    let digits = uuid.digits();
    let number = u32::from_str_radix(digits.get(..8).unwrap_or_default(), 16);
    let start = number.with_context(|| format!("UUID {uuid}"))? % slots;
    let mut ranges = (0..slots).map(|step| IdRange {
        shift: FIRST + (start + step) % slots * COUNT,
        count: COUNT,
    });
    let free = ranges.find(|range| !taken.iter().any(|other| range.overlaps(*other)));
    free.context("--private-users: all ranges of 65536 ids are in use: give one, SHIFT:COUNT")
}

/// The ids that the host's users and groups have, and those that are set aside for them (subuid(5)).
fn of_host(etc: &Path) -> Result<Vec<IdRange>> {
    let mut ranges = Vec::new();
    for (file, of_line) in [
        ("passwd", account as fn(&str) -> Option<IdRange>),
        ("group", account),
        ("subuid", subordinate),
        ("subgid", subordinate),
    ] {
        let path = etc.join(file);
        match fs::read(&path) {
            Ok(content) => {
                let content = String::from_utf8_lossy(&content).into_owned();
                ranges.extend(content.lines().filter_map(of_line));
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => bail!("read {}: {err}", path.display()),
        }
    }
    Ok(ranges)
}

/// `NAME:PASSWORD:ID:…` (passwd(5), group(5)).
fn account(line: &str) -> Option<IdRange> {
    let id = line.split(':').nth(2)?.parse().ok()?;
    fits(IdRange {
        shift: id,
        count: 1,
    })
}

/// `NAME:START:COUNT`.
fn subordinate(line: &str) -> Option<IdRange> {
    let mut numbers = line.trim().split(':').skip(1).map(str::parse);
    let (shift, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    fits(IdRange { shift, count })
}

fn fits(range: IdRange) -> Option<IdRange> {
    range.shift.checked_add(range.count).map(|_| range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "00000001-0000-4000-8000-000000000001";

    fn prepare(pods: &Pods, uuid: &str) -> Uuid {
        let uuid: Uuid = uuid.parse().unwrap();
        fs::create_dir_all(pods.dir(Place::Prepare, &uuid).path()).unwrap();
        uuid
    }

    #[test]
    fn a_range_is_picked_that_nobody_has() {
        let data = tempfile::tempdir().unwrap();
        let etc = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &str| fs::write(etc.path().join(file), content).unwrap();
        let pods = Pods::new(data.path());
        // The UUID's own is that from 0x90000 on; the next ones are in use.
        write("passwd", "root:x:0:0::/:/\na:x:589824:0::/:/\nnonsense\n");
        write("group", "b:x:720895:\n");
        write("subuid", "a:700000:65536\nc:4294967295:9\n");
        for (uuid, shift) in [
            (UUID, 0xc_0000),
            ("00000001-0000-4000-8000-000000000002", 0xd_0000),
        ] {
            let uuid = prepare(&pods, uuid);
            let range = pods.give_ids(&uuid, Users::Pick, etc.path()).unwrap();
            assert_eq!(range.to_string(), format!("{shift}:65536"));
            pods.rename(&uuid, Place::Prepare, Place::Run).unwrap();
            let dir = pods.dir(Place::Run, &uuid);
            assert_eq!(of_pod(&dir).unwrap(), Some(range));
        }
        let given: IdRange = "786432:10".parse().unwrap();
        let uuid = prepare(&pods, "00000001-0000-4000-8000-000000000003");
        let range = pods.give_ids(&uuid, Users::Given(given), etc.path());
        assert_eq!(range.unwrap(), given);
    }

    #[test]
    fn all_ranges_can_be_in_use() {
        let uuid: Uuid = UUID.parse().unwrap();
        let all = IdRange {
            shift: 1,
            count: u32::MAX - 1,
        };
        let error = pick(&uuid, &[all]).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        let last = pick(
            &uuid,
            &[IdRange {
                shift: 1,
                count: LAST - 1,
            }],
        )
        .unwrap();
        assert_eq!(last.shift, LAST);
    }

    #[test]
    fn several_at_once_get_several() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let etc = data.path().join("etc");
        let uuids: Vec<Uuid> = (0..16)
            .map(|n| prepare(&pods, &format!("00000001-0000-4000-8000-0000000000{n:02}")))
            .collect();
        let mut found: Vec<IdRange> = std::thread::scope(|scope| {
            let (pods, etc) = (&pods, &etc);
            let threads: Vec<_> = uuids
                .iter()
                .map(|uuid| scope.spawn(move || pods.give_ids(uuid, Users::Pick, etc).unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 16);
    }
}
