//! The hosts that pods are tried on: data, from which the fixture makes a command line for QEMU and the kernel.

use std::path::{Path, PathBuf};

/// What runs as a guest's first process. Each has an image of `scripts/vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// busybox: no systemd, no dbus, `/` private.
    Busybox,
    /// systemd with dbus and machined.
    Systemd,
    /// The same, newer than the pods' own, and with a newer kernel. It knows the unified layout alone.
    Systemd257,
}

/// How control groups are mounted in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2 only.
    Unified,
    /// Controllers in version 1, an empty version 2 hierarchy beside them.
    Hybrid,
    /// Version 1 only.
    Legacy,
}

/// A kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// What runs as its first process.
    pub init: Init,
    /// How its control groups are mounted.
    pub cgroups: Cgroups,
}

impl Init {
    /// Its image's name, and the first word of its guests'.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Systemd => "systemd",
            Self::Systemd257 => "systemd257",
        }
    }

    /// Its image, below the folder where `scripts/vm` puts things.
    pub(super) fn image(self, made: &Path) -> PathBuf {
        made.join(format!("{}.ext4", self.name()))
    }
}

impl Cgroups {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
            Self::Legacy => "legacy",
        }
    }
}

impl Guest {
    /// A guest.
    pub const fn new(init: Init, cgroups: Cgroups) -> Self {
        Self { init, cgroups }
    }

    /// Every kind of guest.
    pub fn all() -> impl Iterator<Item = Self> {
        let inits = [Init::Busybox, Init::Systemd].into_iter();
        let guests = inits.flat_map(|init| {
            let layouts = [Cgroups::Unified, Cgroups::Hybrid, Cgroups::Legacy];
            layouts.map(|cgroups| Self::new(init, cgroups))
        });
        guests.chain([Self::new(Init::Systemd257, Cgroups::Unified)])
    }

    /// What people call it, such as `busybox-hybrid`.
    pub fn name(self) -> String {
        format!("{}-{}", self.init.name(), self.cgroups.name())
    }

    /// The folder of its kernel, below the folder where `scripts/vm` puts things.
    pub(super) fn kernel(self, made: &Path) -> PathBuf {
        made.join(match self.init {
            Init::Busybox | Init::Systemd => "kernel",
            Init::Systemd257 => "kernel612",
        })
    }

    /// What it reads from the kernel's command line: `tests/vm/busybox/etc/init.d/rcS` its own word, systemd its.
    pub(super) fn kernel_words(self) -> &'static [&'static str] {
        match (self.init, self.cgroups) {
            (Init::Busybox, Cgroups::Unified) => &["stage1.cgroups=unified"],
            (Init::Busybox, Cgroups::Hybrid) => &["stage1.cgroups=hybrid"],
            (Init::Busybox, Cgroups::Legacy) => &["stage1.cgroups=legacy"],
            (Init::Systemd | Init::Systemd257, Cgroups::Unified) => {
                &["systemd.unified_cgroup_hierarchy=1"]
            }
            (Init::Systemd | Init::Systemd257, Cgroups::Hybrid) => &[
                "systemd.unified_cgroup_hierarchy=0",
                "systemd.legacy_systemd_cgroup_controller=0",
            ],
            (Init::Systemd | Init::Systemd257, Cgroups::Legacy) => &[
                "systemd.unified_cgroup_hierarchy=0",
                "systemd.legacy_systemd_cgroup_controller=1",
            ],
        }
    }
}
