//! The one home of the paths that stage0 and stage1 agree on (contract.md, "The pod directory").
//!
//! [`PodDir`] is the pod directory, [`StageRoot`] the stage1 root file system in it. Both are prefixes: a
//! pod directory is renamed while its life goes on, so an entrypoint works with `.` and stores no absolute
//! path of it.

mod names;

use std::path::{Path, PathBuf};

pub use names::names_in;

use crate::stream::Target;
use crate::unit::app_units;

/// The stage1 root file system, from the pod directory.
pub const STAGE_ROOT: &str = "stage1/rootfs";

/// A pod directory, `pods/STATE/UUID` in the data directory of stage0.
#[derive(Debug, Clone)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The pod directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PodDir(path.into())
    }

    /// The pod directory itself; stage0 holds an exclusive `flock` on it.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The pod manifest, replaced atomically when apps come and go.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("pod")
    }

    /// Locked by stage0 while a running pod is being changed.
    pub fn manifest_lock(&self) -> PathBuf {
        self.0.join("pod.lck")
    }

    /// Which change of the apps has begun and not ended, if one has; stage0's own.
    pub fn change(&self) -> PathBuf {
        self.0.join("change")
    }

    /// What stage0 keeps of the images of all apps.
    pub fn apps_info(&self) -> PathBuf {
        self.0.join("appsinfo")
    }

    /// What stage0 keeps of the image of one app.
    pub fn app_info(&self, app: &str) -> PathBuf {
        self.apps_info().join(app)
    }

    /// The image manifest of one app.
    pub fn app_image_manifest(&self, app: &str) -> PathBuf {
        self.app_info(app).join("manifest")
    }

    /// Which rendered tree an app uses, with overlay.
    pub fn app_tree_id(&self, app: &str) -> PathBuf {
        self.app_info(app).join("treeStoreID")
    }

    /// Empty; its modification time is when the pod was made.
    pub fn created(&self) -> PathBuf {
        self.0.join("pod-created")
    }

    /// Which rendered tree stage1 uses, with overlay.
    pub fn stage1_tree_id(&self) -> PathBuf {
        self.0.join("stage1TreeStoreID")
    }

    /// The overlay layers (`upper`, `work`) over the rendered tree `id`.
    pub fn overlay(&self, id: &str) -> PathBuf {
        self.0.join("overlay").join(id)
    }

    /// Marker: the roots of this pod are overlays.
    pub fn overlay_prepared(&self) -> PathBuf {
        self.0.join("overlay-prepared")
    }

    /// The `SHIFT:COUNT` uid range of a pod with a user namespace.
    pub fn private_users_prepared(&self) -> PathBuf {
        self.0.join("private-users-prepared")
    }

    /// The manifest of the stage1 image.
    pub fn stage1_manifest(&self) -> PathBuf {
        self.0.join("stage1/manifest")
    }

    /// The stage1 root file system.
    pub fn stage_root(&self) -> StageRoot {
        StageRoot(self.0.join(STAGE_ROOT))
    }

    /// The folder of the backing directories of `empty` volumes.
    pub fn shared_volumes(&self) -> PathBuf {
        self.0.join("sharedVolumes")
    }

    /// The backing directory of one `empty` volume.
    pub fn shared_volume(&self, name: &str) -> PathBuf {
        self.shared_volumes().join(name)
    }

    /// The pod's cgroup, as a path from the root of each hierarchy, without a newline.
    pub fn subcgroup(&self) -> PathBuf {
        self.0.join("subcgroup")
    }

    /// The pid of the parent of the pod's PID 1; its modification time is the pod's start.
    pub fn ppid(&self) -> PathBuf {
        self.0.join("ppid")
    }

    /// The pid of the pod's PID 1 itself, written by stage1s that know it instead of [`PodDir::ppid`].
    pub fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// The run options that a later change of the pod needs; stage1's own.
    pub fn runtime_config(&self) -> PathBuf {
        self.0.join("runtime-config")
    }

    /// What stage0s are told of the pod's networks ([`crate::net::NetInfo`]).
    pub fn net_info(&self) -> PathBuf {
        self.0.join("net-info.json")
    }

    /// What gc needs to undo the pod's networks; stage1's own.
    pub fn net_state(&self) -> PathBuf {
        self.0.join("net-state.json")
    }

    /// Locked while a plugin of the pod's networks runs; stage1's own.
    pub fn net_lock(&self) -> PathBuf {
        self.0.join("net-lock")
    }

    /// Symlink that names the flavor of stage1, for gc when the stage1 root is gone.
    pub fn flavor(&self) -> PathBuf {
        self.0.join("flavor")
    }
}

/// The stage1 root file system: `stage1/rootfs` seen from the host, `/` seen from inside the pod.
#[derive(Debug, Clone)]
pub struct StageRoot(PathBuf);

impl StageRoot {
    /// The stage1 root at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StageRoot(path.into())
    }

    /// The root itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside of the root; `inner` is absolute as seen in the pod.
    pub fn join(&self, inner: &str) -> PathBuf {
        self.0.join(inner.trim_start_matches('/'))
    }

    /// The folder of one app: its root and its image manifest.
    pub fn app(&self, app: &str) -> PathBuf {
        self.0.join("opt/stage2").join(app)
    }

    /// The root file system of one app.
    pub fn app_root(&self, app: &str) -> PathBuf {
        self.app(app).join("rootfs")
    }

    /// The image manifest beside the root of one app.
    pub fn app_manifest(&self, app: &str) -> PathBuf {
        self.app(app).join("manifest")
    }

    /// The folder of the apps' environments.
    pub fn envs(&self) -> PathBuf {
        self.0.join("rkt/env")
    }

    /// The environment of one app ([`crate::env`]).
    pub fn env(&self, app: &str) -> PathBuf {
        self.envs().join(app)
    }

    /// What prepare-app makes for one app ([`crate::spec`]); this project's own.
    pub fn spec(&self, app: &str) -> PathBuf {
        self.specs().join(app)
    }

    /// Which process is an app's main one ([`crate::main_process`]); this project's own.
    pub fn main_process(&self, app: &str) -> PathBuf {
        self.0.join("rkt/main").join(app)
    }

    /// The folder of the credentials of one app, for prepare-app to give it; this project's own.
    pub fn credentials(&self, app: &str) -> PathBuf {
        self.0.join("rkt/credentials").join(app)
    }

    /// A credential of one app.
    pub fn credential(&self, app: &str, name: &str) -> PathBuf {
        self.credentials(app).join(name)
    }

    /// What the pod's first program does before systemd starts ([`crate::spec::PodSpec`]); this project's own.
    pub fn pod_spec(&self) -> PathBuf {
        self.0.join("rkt/pod-spec")
    }

    /// What became of the pod's own isolators, a list as in [`StageRoot::status_json`]; this project's own.
    pub fn pod_isolators(&self) -> PathBuf {
        self.0.join("rkt/pod-isolators.json")
    }

    /// The folder of what prepare-app makes for the apps: an app that stage1 knows has a file in it.
    pub fn specs(&self) -> PathBuf {
        self.0.join("rkt/spec")
    }

    /// The compiled default filter, made with the image: an app that asks for nothing else needs no compiling when it
    /// starts.
    pub fn default_filter(&self) -> PathBuf {
        self.0.join(DEFAULT_FILTER)
    }

    /// The compiled filter of pods that have the capabilities of most, made with the image.
    pub fn default_pod_filter(&self) -> PathBuf {
        self.0.join(DEFAULT_POD_FILTER)
    }

    /// The compiled filter of this pod, in the place of the image's; this project's own.
    pub fn pod_filter(&self) -> PathBuf {
        self.0.join("rkt/pod-filter")
    }

    /// The compiled system call filter of one app ([`crate::isolate::seccomp`]); this project's own.
    pub fn seccomp(&self, app: &str) -> PathBuf {
        self.0.join("rkt/seccomp").join(app)
    }

    /// The folder of an app's endpoints, sockets to which one attaches.
    pub fn iottymux(&self, app: &str) -> PathBuf {
        self.0.join("rkt/iottymux").join(app)
    }

    /// Which endpoints an app has: there as long as they are served.
    pub fn endpoints(&self, app: &str) -> PathBuf {
        self.iottymux(app).join("endpoints")
    }

    /// One of an app's endpoints.
    pub fn endpoint(&self, app: &str, target: Target) -> PathBuf {
        self.iottymux(app).join(format!("sock-{}", target.name()))
    }

    /// Where the size of an app's terminal is told; this project's own.
    pub fn terminal_size(&self, app: &str) -> PathBuf {
        self.iottymux(app).join("sock-size")
    }

    /// Where prepare-app hands an app's streams over, in the pod alone; this project's own.
    pub fn mux_socket(&self) -> PathBuf {
        self.0.join("run/stage1/iottymux")
    }

    /// Where the pod's volumes are mounted for the apps to take them from; this project's own.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("rkt/volumes")
    }

    /// The folder of exit statuses.
    pub fn statuses(&self) -> PathBuf {
        self.0.join("rkt/status")
    }

    /// The exit status of one app, decimal, once it has ended.
    pub fn status(&self, app: &str) -> PathBuf {
        self.statuses().join(app)
    }

    /// The whole story of an app's end ([`crate::status`]); this project's own.
    pub fn status_json(&self, app: &str) -> PathBuf {
        self.statuses().join(format!("{app}.json"))
    }

    /// Marker of stage0: the app was added to a mutable pod.
    pub fn app_created(&self, app: &str) -> PathBuf {
        self.statuses().join(format!("{app}-created"))
    }

    /// Marker of stage0: the app was started in a mutable pod.
    pub fn app_started(&self, app: &str) -> PathBuf {
        self.statuses().join(format!("{app}-started"))
    }

    /// Symlink to [`SUPERVISOR_READY`] once the supervisor is up.
    pub fn supervisor_status(&self) -> PathBuf {
        self.0.join("rkt/supervisor-status")
    }

    /// The pod's users: systemd starts no service as a user without a record.
    pub fn passwd(&self) -> PathBuf {
        self.0.join("etc/passwd")
    }

    /// The pod's groups.
    pub fn group(&self) -> PathBuf {
        self.0.join("etc/group")
    }

    /// The `resolv.conf` shown to every app, when there is one.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("etc/rkt-resolv.conf")
    }

    /// The `hosts` shown to every app, when there is one.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("etc/rkt-hosts")
    }

    /// The `hosts` shown to apps that bring none.
    pub fn hosts_fallback(&self) -> PathBuf {
        self.0.join("etc/hosts-fallback")
    }

    /// Where generated units go.
    pub fn units(&self) -> PathBuf {
        self.0.join("etc/systemd/system")
    }

    /// What stage1 keeps of one app, each path a file or a link that may be there: what there is of them is removed
    /// with the app. The markers of an app's life are stage0's.
    pub fn app_files(&self, app: &str) -> Vec<PathBuf> {
        let units = app_units(app).map(|unit| self.units().join(unit));
        let links = app_units(app).map(|unit| self.wants().join(unit));
        let mut files = Vec::from(units);
        files.extend(links);
        files.extend([
            self.status_json(app),
            self.status(app),
            self.seccomp(app),
            self.main_process(app),
            self.env(app),
            // The last: it names what else there is of the app.
            self.spec(app),
        ]);
        files
    }

    /// Where units are linked that start with the pod.
    pub fn wants(&self) -> PathBuf {
        self.units().join("default.target.wants")
    }

    /// Where the directory of the host is mounted below which apps are logged for Kubernetes, as rkt has it.
    pub fn kubernetes_log(&self) -> PathBuf {
        self.0.join("rkt/kubernetes/log")
    }

    /// What journald is told of the pod's journal besides what is in the image.
    pub fn journal_limit(&self) -> PathBuf {
        self.0.join("etc/systemd/journald.conf.d/limit.conf")
    }

    /// The folder of the pod's journal; in it a folder named by the pod's machine id.
    pub fn journal(&self) -> PathBuf {
        self.0.join("var/log/journal")
    }
}

/// Where the image has the compiled default filter ([`StageRoot::default_filter`]).
pub const DEFAULT_FILTER: &str = "usr/lib/stage1/default-filter";

/// Where the image has the compiled filter of pods ([`StageRoot::default_pod_filter`]).
pub const DEFAULT_POD_FILTER: &str = "usr/lib/stage1/pod-filter";

/// Target of the supervisor-status link when the supervisor is up; anything else means not ready.
pub const SUPERVISOR_READY: &str = "ready";

/// The machine name of a pod, for nspawn, machined and the default host name.
pub fn machine_name(uuid: &str) -> String {
    format!("rkt-{uuid}")
}
