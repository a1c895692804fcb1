//! Options that only the run of a pod knows.

use anyhow::{Result, bail};
use clap::ValueEnum;
use common::net::Network;

use crate::pod::users::Users;

/// `--net`: `host`, `none`, `all`, or networks with arguments.
pub(crate) fn network(text: &str) -> Result<Network> {
    Network::parse(text)
}

/// `--net-ns`: the path of a namespace.
pub(crate) fn given_network(text: &str) -> Result<Network> {
    Network::given(text)
}

/// The pod's IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ipc {
    /// As the stage1 sees fit.
    Auto,
    /// Its own.
    Private,
    /// The host's.
    Parent,
}

impl Ipc {
    /// As the run entrypoint spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Private => "private",
            Self::Parent => "parent",
        }
    }
}

/// Protections to go without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Insecure {
    /// No limit to the capabilities of apps.
    pub(crate) capabilities: bool,
    /// No paths hidden from apps or made read-only for them.
    pub(crate) paths: bool,
    /// No seccomp filter.
    pub(crate) seccomp: bool,
}

/// A comma-separated list of protections.
pub(crate) fn insecure(text: &str) -> Result<Insecure> {
    let mut insecure = Insecure::default();
    for word in text.split(',') {
        match word {
            // Signatures of images are never checked, digests always: there is nothing to turn off.
            "none" | "image" => {}
            "capabilities" => insecure.capabilities = true,
            "paths" => insecure.paths = true,
            "seccomp" => insecure.seccomp = true,
            "all" | "all-run" => {
                insecure = Insecure {
                    capabilities: true,
                    paths: true,
                    seccomp: true,
                };
            }
            _ => bail!(
                "{word:?}: unknown (known: none, image, capabilities, paths, seccomp, all, all-run)"
            ),
        }
    }
    Ok(insecure)
}

/// The ids of a pod, if it is to have a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PrivateUsers(pub(crate) Option<Users>);

/// `SHIFT:COUNT`, or whether there is to be a user namespace.
pub(crate) fn private_users(text: &str) -> Result<PrivateUsers> {
    Ok(PrivateUsers(match text {
        "false" => None,
        "true" => Some(Users::Pick),
        range => Some(Users::Given(range.parse()?)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_users_are_picked_or_given() {
        let shown = |text| private_users(text).map(|users| format!("{:?}", users.0));
        assert_eq!(shown("false").unwrap(), "None");
        assert_eq!(shown("true").unwrap(), "Some(Pick)");
        assert!(
            shown("65536:10")
                .unwrap()
                .contains("shift: 65536, count: 10")
        );
        let error = shown("yes").unwrap_err().to_string();
        assert_eq!(error, "must be SHIFT:COUNT, two numbers of user ids");
    }

    #[test]
    fn insecure_options() {
        let shown = |text| insecure(text).map(|i| (i.capabilities, i.paths, i.seccomp));
        assert_eq!(shown("none").unwrap(), (false, false, false));
        assert_eq!(shown("image").unwrap(), (false, false, false));
        assert_eq!(shown("image,seccomp").unwrap(), (false, false, true));
        assert_eq!(shown("paths,capabilities").unwrap(), (true, true, false));
        assert_eq!(shown("all").unwrap(), (true, true, true));
        assert_eq!(shown("all-run").unwrap(), (true, true, true));
        for (text, word) in [("", ""), ("tls", "tls"), ("image,", "")] {
            assert_eq!(
                insecure(text).unwrap_err().to_string(),
                format!(
                    "{word:?}: unknown (known: none, image, capabilities, paths, seccomp, all, all-run)"
                )
            );
        }
    }
}
