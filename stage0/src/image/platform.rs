//! For which machine an image is.

use std::fmt;

use oci_spec::image::{Arch, Os};

/// An operating system and a processor, as OCI images name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system.
    pub os: Os,
    /// The processor's architecture.
    pub arch: Arch,
    /// The version of the architecture, for instance `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// This machine.
    pub fn host() -> Self {
        Self {
            os: Os::default(),
            arch: Arch::default(),
            variant: None,
        }
    }

    /// The platform that an index gives for one of its manifests.
    pub fn of(platform: &oci_spec::image::Platform) -> Self {
        Self {
            os: platform.os().clone(),
            arch: platform.architecture().clone(),
            variant: platform.variant().clone(),
        }
    }

    /// Whether images for it run on `host`.
    pub fn runs_on(&self, host: &Self) -> bool {
        self.os == host.os && self.arch == host.arch
    }

    /// The labels `os` and `arch` of appc.
    pub fn appc(&self) -> (String, String) {
        let variant = self.variant.as_deref();
        let arch = match (&self.arch, variant) {
            (Arch::i386, _) => "i386".to_owned(),
            (Arch::ARM64, _) => "aarch64".to_owned(),
            (Arch::ARM, Some("v5" | "v6")) => "armv6l".to_owned(),
            (Arch::ARM, _) => "armv7l".to_owned(),
            (Arch::Amd64, _) if self.os == Os::Darwin => "x86_64".to_owned(),
            (other, _) => other.to_string(),
        };
        (self.os.to_string(), arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appc_names() {
        for (arch, variant, expected) in [
            ("amd64", None, "amd64"),
            ("386", None, "i386"),
            ("arm64", Some("v8"), "aarch64"),
            ("arm", Some("v6"), "armv6l"),
            ("arm", Some("v7"), "armv7l"),
            ("arm", None, "armv7l"),
            ("ppc64le", None, "ppc64le"),
            ("s390x", None, "s390x"),
            ("riscv64", None, "riscv64"),
        ] {
            let platform = Platform {
                os: Os::Linux,
                arch: arch.into(),
                variant: variant.map(str::to_owned),
            };
            assert_eq!(platform.appc(), ("linux".to_owned(), expected.to_owned()));
        }
    }

    #[test]
    fn this_machine_runs_its_own_images() {
        let host = Platform::host();
        assert!(host.runs_on(&host));
        let other = Platform {
            arch: Arch::Other("pdp11".to_owned()),
            ..host.clone()
        };
        assert!(!other.runs_on(&host));
    }
}
