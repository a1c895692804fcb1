//! What the host is like, read once.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::caller::Caller;
use crate::cgroup::{Hierarchies, Hierarchy};

/// Whether the kernel's log has times. journald puts them before each line on the console when it can read "Y" here.
pub const PRINTK_TIME: &str = "/sys/module/printk/parameters/time";

/// Facts about the host that a plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// systemd is the host's init (sd_booted(3)).
    pub systemd: bool,
    /// The host has a system D-Bus, by which systemd and machined are asked.
    pub system_bus: bool,
    /// The host has systemd-machined.
    pub machined: bool,
    /// The host keeps a persistent journal, into which the pod's can be linked.
    pub journal: bool,
    /// The host has an `os-release` file, which nspawn shows to the pod and does not start without.
    pub os_release: bool,
    /// The cgroup hierarchies that are mounted.
    pub cgroups: Hierarchies,
    /// The kernel says whether its log has times, which journald takes for its lines on the console.
    pub printk_time: bool,
    /// The controllers of the unified hierarchy.
    pub unified_controllers: Vec<String>,
    /// The kernel has programs that restrict the devices of a cgroup ([`crate::kernel::has_device_programs`]).
    pub device_programs: bool,
    /// The number of the kernel's last capability.
    pub last_capability: u8,
    /// The host has SELinux.
    pub selinux: bool,
    /// The SELinux context of the pod's processes, from the caller (`RKT_SELINUX_CONTEXT`).
    pub selinux_context: Option<String>,
    /// The SELinux context of what is mounted for the pod (`RKT_SELINUX_MOUNT_CONTEXT`).
    pub selinux_mount_context: Option<String>,
    /// The AppArmor profiles that are loaded, where the host has AppArmor.
    pub apparmor: Option<Vec<String>>,
    /// What the caller hands over to the pod.
    pub caller: Caller,
}

impl HostFacts {
    /// Reads the facts of the host whose root is `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let exists = |path: &str| root.join(path).exists();
        let systemd = exists("run/systemd/system");
        let cgroups = Hierarchies::read(&root.join("proc"))?;
        Ok(HostFacts {
            systemd,
            system_bus: systemd && exists("run/dbus/system_bus_socket"),
            machined: systemd
                && exists("usr/share/dbus-1/system-services/org.freedesktop.machine1.service"),
            journal: systemd && exists("run/systemd/journal/socket") && exists("var/log/journal"),
            os_release: exists("etc/os-release") || exists("usr/lib/os-release"),
            printk_time: exists(PRINTK_TIME.trim_start_matches('/')),
            unified_controllers: unified_controllers(root, &cgroups),
            cgroups,
            selinux: exists("sys/fs/selinux/enforce"),
            // Not read from files: init adds them.
            device_programs: false,
            selinux_context: None,
            selinux_mount_context: None,
            caller: Caller::default(),
            apparmor: apparmor(root),
            last_capability: crate::isolate::capability::last(&root.join("proc"))?,
        })
    }

    /// The SELinux context of the pod's processes, when there is one and SELinux.
    pub fn process_context(&self) -> Option<&str> {
        self.context(self.selinux_context.as_deref())
    }

    /// The SELinux context of what is mounted for the pod, when there is one and SELinux.
    pub fn mount_context(&self) -> Option<&str> {
        self.context(self.selinux_mount_context.as_deref())
    }

    /// Callers set the variables even when they have nothing to say.
    fn context<'a>(&self, given: Option<&'a str>) -> Option<&'a str> {
        given.filter(|context| self.selinux && !context.is_empty())
    }

    /// Which cgroup the pod gets, and who makes it.
    pub fn pod_cgroup(&self, machine: &str) -> PodCgroup {
        let own = self.cgroups.of_units();
        let service = own.filter(|_| self.systemd).and_then(service);
        if self.system_bus && service.is_none() {
            // machined names the scope its own way; without it nspawn asks systemd for one by the plain name.
            let unit = if self.machined {
                format!("machine-{}.scope", crate::unit::escape::unit_name(machine))
            } else {
                format!("{machine}.scope")
            };
            return PodCgroup {
                path: Path::new("/machine.slice").join(unit),
                scope: true,
            };
        }
        let own = own.map_or_else(|| PathBuf::from("/"), |h| h.own.clone());
        PodCgroup {
            path: service.unwrap_or(own).join(machine),
            scope: false,
        }
    }
}

/// The cgroup of the service that this process is in. A unit is what is no slice for the first time on the way, as systemd
/// and machined have it; the process may be in one below, by `DelegateSubgroup=` or because the service makes some.
///
/// The units of a user's slice are not meant: what they run, by the user's own systemd, nspawn registers in a scope only.
fn service(units: &Hierarchy) -> Option<PathBuf> {
    let mut path = units.mounted.clone();
    let mut slice = String::new();
    // In a container the units begin at what is mounted there.
    let below = units.own.strip_prefix(&units.mounted).ok()?;
    for name in below {
        path.push(name);
        let name = name.to_string_lossy();
        if name.ends_with(".slice") {
            slice = name.into_owned();
        } else {
            return (name.ends_with(".service") && !is_of_user(&slice)).then_some(path);
        }
    }
    None
}

/// Whether a slice is that of a user (`user-UID.slice`).
fn is_of_user(slice: &str) -> bool {
    let uid = slice.strip_prefix("user-");
    let uid = uid.and_then(|uid| uid.strip_suffix(".slice"));
    uid.is_some_and(|uid| uid.parse::<u32>().is_ok())
}

/// The profiles of AppArmor, if there is one.
fn apparmor(root: &Path) -> Option<Vec<String>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let profiles = read("sys/kernel/security/apparmor/profiles");
    let enabled = read("sys/module/apparmor/parameters/enabled");
    let present = profiles.is_some() || enabled.is_some_and(|text| text.trim() == "Y");
    // Where they cannot be read nothing is known to be loaded.
    present.then(|| crate::isolate::lsm::profiles(&profiles.unwrap_or_default()))
}

/// What the root of the unified hierarchy says that it has.
fn unified_controllers(root: &Path, cgroups: &Hierarchies) -> Vec<String> {
    let Some(unified) = cgroups.0.iter().find(|h| h.is_unified()) else {
        return Vec::new();
    };
    let mounted = unified.mount_point.strip_prefix("/");
    let dir = root.join(mounted.unwrap_or(&unified.mount_point));
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().map(str::to_owned).collect()
}

/// The cgroup of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCgroup {
    /// Its path from the root of every hierarchy.
    pub path: PathBuf,
    /// nspawn has the host's systemd make it, as a scope; else init makes it.
    pub scope: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(own: &str, systemd: bool) -> HostFacts {
        let unified = Hierarchy {
            mount_point: "/sys/fs/cgroup".into(),
            mounted: "/".into(),
            controllers: Vec::new(),
            own: own.into(),
        };
        let cgroups = Hierarchies(vec![unified]);
        HostFacts {
            systemd,
            system_bus: systemd,
            machined: systemd,
            cgroups,
            ..HostFacts::default()
        }
    }

    #[test]
    fn security_modules() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        assert_eq!(apparmor(dir.path()), None);
        write("sys/module/apparmor/parameters/enabled", "N\n");
        assert_eq!(apparmor(dir.path()), None);
        write("sys/module/apparmor/parameters/enabled", "Y\n");
        assert_eq!(apparmor(dir.path()), Some(Vec::new()));
        write("sys/kernel/security/apparmor/profiles", "a (enforce)\n");
        assert_eq!(apparmor(dir.path()), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn a_pod_has_a_cgroup_of_its_own() {
        let path = |own: &str, systemd| facts(own, systemd).pod_cgroup("rkt-1-2");
        let own = PodCgroup {
            path: "/rkt-1-2".into(),
            scope: false,
        };
        assert_eq!(path("/", false), own);
        let scope = PodCgroup {
            path: "/machine.slice/machine-rkt\\x2d1\\x2d2.scope".into(),
            scope: true,
        };
        assert_eq!(
            path("/user.slice/user-0.slice/session-1.scope", true),
            scope
        );
        let service = PodCgroup {
            path: "/system.slice/web.service/rkt-1-2".into(),
            scope: false,
        };
        for own in ["", "/main", "/sub/other.scope", "/payload/init.scope"] {
            let own = format!("/system.slice/web.service{own}");
            assert_eq!(path(&own, true), service, "{own}");
        }
        let of_user = "/user.slice/user-0.slice/user@0.service";
        for own in ["", "/init.scope", "/app.slice/web.service", "/main"] {
            let own = format!("{of_user}{own}");
            assert_eq!(path(&own, true), scope, "{own}");
        }
        for own in ["/", "/init.scope", "/machine.slice/a.scope/b.service"] {
            assert_eq!(path(own, true), scope, "{own}");
        }
    }

    #[test]
    fn units_of_a_container_begin_at_its_own_cgroup() {
        let mut facts = facts("/lxc/a/system.slice/web.service/main", true);
        facts.cgroups.0[0].mounted = "/lxc/a".into();
        let service = PodCgroup {
            path: "/lxc/a/system.slice/web.service/rkt-1-2".into(),
            scope: false,
        };
        assert_eq!(facts.pod_cgroup("rkt-1-2"), service);
    }
}
