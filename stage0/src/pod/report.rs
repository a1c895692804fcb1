//! What is to be said about a pod.

use std::fs;
use std::net::IpAddr;
use std::path::{Component, Path};
use std::time::SystemTime;

use anyhow::Result;
use common::appc::{PodManifest, Uuid};
use common::id_range::IdRange;
use common::net::{NetInfo, read_infos};
use common::pod::{PodDir, SUPERVISOR_READY, StageRoot};
use common::root::Root;
use rustix::fs::{OFlags, readlinkat};
use serde_json::{Map, Value};

use super::overlay::Layers;
use super::process;
use super::state::{Seen, State};
use super::users;

/// A pod as it is now.
#[derive(Debug)]
pub struct Report {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its state.
    pub state: State,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it was started.
    pub started: Option<SystemTime>,
    /// The pid of its PID 1, while it runs.
    pub pid: Option<i32>,
    /// Its ids on the host, when it has a user namespace.
    pub users: Option<IdRange>,
    /// Whether all its apps are ready, while it runs.
    pub ready: Option<bool>,
    /// Its networks, while there is something of them.
    pub networks: Vec<NetInfo>,
    /// Its apps; none while the pod is incomplete.
    pub apps: Vec<AppReport>,
}

/// An app of a pod.
#[derive(Debug)]
pub struct AppReport {
    /// Its name.
    pub name: String,
    /// The name of its image.
    pub image: Option<String>,
    /// Its exit status, once it has ended.
    pub status: Option<i32>,
}

impl Report {
    /// Looks at a pod.
    pub fn of(seen: &Seen, proc: &Path) -> Self {
        let files = seen.pod.files();
        let manifest = fs::read(files.manifest())
            .ok()
            .and_then(|bytes| PodManifest::parse(&bytes).ok());
        let stage1 = written_root(&files);
        let apps = manifest.into_iter().flat_map(|manifest| manifest.apps);
        Self {
            uuid: seen.pod.uuid.clone(),
            state: seen.state,
            created: modified(&files.created()),
            started: modified(&files.ppid()).or_else(|| modified(&files.pid())),
            pid: (seen.state == State::Running)
                .then(|| process::pid_one(&files, proc))
                .flatten(),
            users: users::of_pod(&files).ok().flatten(),
            ready: (seen.state == State::Running).then(|| stage1.as_ref().is_some_and(is_ready)),
            // What cannot be read is not told: the pod is there all the same.
            networks: read_infos(&files.net_info())
                .ok()
                .flatten()
                .unwrap_or_default(),
            apps: apps
                .map(|app| AppReport {
                    status: stage1
                        .as_ref()
                        .and_then(|root| status(root, app.name.as_str())),
                    name: app.name.into(),
                    image: app.image.name.map(String::from),
                })
                .collect(),
        }
    }

    /// What `status` shows, by the names that it shows it under.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let time =
            |time: SystemTime| Value::from(humantime::format_rfc3339_millis(time).to_string());
        fields.insert("state".into(), self.state.as_str().into());
        if let Some(created) = self.created {
            fields.insert("created".into(), time(created));
        }
        if let Some(started) = self.started {
            fields.insert("started".into(), time(started));
        }
        if let Some(pid) = self.pid {
            fields.insert("pid".into(), pid.into());
        }
        if let Some(users) = self.users {
            fields.insert("private-users".into(), users.to_string().into());
        }
        if let Some(ready) = self.ready {
            fields.insert("ready".into(), ready.into());
        }
        if !self.networks.is_empty() {
            fields.insert("networks".into(), self.networks().into());
        }
        fields.insert("exited".into(), (self.state == State::Exited).into());
        for app in &self.apps {
            if let Some(status) = app.status {
                fields.insert(format!("app-{}", app.name), status.into());
            }
        }
        fields
    }

    /// Networks and addresses, as rkt shows them.
    pub fn networks(&self) -> String {
        let shown = |network: &NetInfo| {
            let addresses = network.addresses.iter().map(|net| match net.addr() {
                IpAddr::V4(ip) => format!("ip4={ip}"),
                IpAddr::V6(ip) => format!("ip6={ip}"),
            });
            let addresses: Vec<_> = addresses.collect();
            match addresses.is_empty() {
                true => network.net_name.clone(),
                false => format!("{}:{}", network.net_name, addresses.join(",")),
            }
        };
        let networks: Vec<_> = self.networks.iter().map(shown).collect();
        networks.join(" ")
    }
}

/// The part of the stage1 root that the pod has written: with overlay it is there without a mount, too.
pub(crate) fn written_root(pod: &PodDir) -> Option<Root> {
    let root = match pod.overlay_prepared().exists() {
        true => {
            // Another stage0 names its trees in another way: any plain name will do.
            let id = fs::read_to_string(pod.stage1_tree_id()).ok()?;
            let id = Path::new(id.trim());
            let mut parts = id.components();
            let plain = matches!(
                (parts.next(), parts.next()),
                (Some(Component::Normal(_)), None)
            );
            Layers::of(pod, id.to_str().filter(|_| plain)?, None)
                .upper()
                .to_owned()
        }
        false => pod.stage_root().path().to_owned(),
    };
    Root::open(&root).ok()
}

/// Whether the supervisor's link says so: it is made when the last app is ready.
fn is_ready(stage1: &Root) -> bool {
    let link = StageRoot::new("").supervisor_status();
    let link = stage1.open_at(&link, OFlags::PATH | OFlags::NOFOLLOW).ok();
    let target = link.and_then(|link| readlinkat(link, c"", Vec::new()).ok());
    target.is_some_and(|target| target.as_bytes() == SUPERVISOR_READY.as_bytes())
}

/// An app's exit status. What the pod has written is not trusted to be a file.
fn status(stage1: &Root, app: &str) -> Option<i32> {
    let content = stage1.read(&StageRoot::new("").status(app)).ok()??;
    std::str::from_utf8(&content).ok()?.trim().parse().ok()
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(file)
        .and_then(|stat| stat.modified())
        .ok()
}

/// The pod's manifest as its file has it.
pub fn manifest_text(pod: &PodDir) -> Result<Vec<u8>> {
    use anyhow::Context as _;
    let file = pod.manifest();
    fs::read(&file).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{Place, Pods};
    use super::*;

    const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const TREE: &str = "tree-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const MANIFEST: &str = r#"{"acVersion":"0.8.11","acKind":"PodManifest","apps":[
        {"name":"web","image":{"name":"example.com/web","id":"sha512-aa"},"app":{"exec":["/w"],"user":"0","group":"0"}},
        {"name":"db","image":{"id":"sha512-bb"},"app":{"exec":["/d"],"user":"0","group":"0"}}]}"#;

    fn exited_pod() -> (tempfile::TempDir, Pods, PodDir) {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        let dir = pods.dir(Place::Run, &UUID.parse().unwrap());
        fs::create_dir_all(dir.path()).unwrap();
        fs::write(dir.manifest(), MANIFEST).unwrap();
        for file in [dir.created(), dir.ppid()] {
            let file = fs::File::create(file).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_millis(1500))
                .unwrap();
        }
        (data, pods, dir)
    }

    fn shown(pods: &Pods) -> String {
        let proc = Path::new("/proc");
        let seen = pods.see(&UUID.parse().unwrap(), proc).unwrap();
        serde_json::to_string(&Report::of(&seen, proc).fields()).unwrap()
    }

    #[test]
    fn statuses_of_plain_pods() {
        let (_data, pods, dir) = exited_pod();
        let before = r#"{"state":"exited","created":"1970-01-01T00:00:01.500Z","started":"1970-01-01T00:00:01.500Z","exited":true"#;
        assert_eq!(shown(&pods), format!("{before}}}"));
        fs::create_dir_all(dir.stage_root().statuses()).unwrap();
        fs::write(dir.stage_root().status("web"), "143\n").unwrap();
        fs::write(dir.stage_root().status("db"), "").unwrap();
        assert_eq!(shown(&pods), format!(r#"{before},"app-web":143}}"#));
    }

    #[test]
    fn statuses_of_pods_with_overlay() {
        let (_data, pods, dir) = exited_pod();
        fs::write(dir.overlay_prepared(), "").unwrap();
        fs::write(dir.stage1_tree_id(), TREE).unwrap();
        let upper = StageRoot::new(dir.overlay(TREE).join("upper"));
        fs::create_dir_all(upper.statuses()).unwrap();
        fs::write(upper.status("db"), "0").unwrap();
        assert!(
            shown(&pods).ends_with(r#","app-db":0}"#),
            "{}",
            shown(&pods)
        );
    }

    #[test]
    fn a_status_that_is_no_file_is_ignored() {
        let (_data, pods, dir) = exited_pod();
        fs::create_dir_all(dir.stage_root().statuses()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.stage_root().status("web")).unwrap();
        assert!(shown(&pods).ends_with(r#""exited":true}"#));
    }

    #[test]
    fn an_incomplete_pod_has_a_state() {
        let data = tempfile::tempdir().unwrap();
        let pods = Pods::new(data.path());
        fs::create_dir_all(pods.dir(Place::Embryo, &UUID.parse().unwrap()).path()).unwrap();
        assert_eq!(shown(&pods), r#"{"state":"embryo","exited":false}"#);
    }
}
