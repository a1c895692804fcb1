//! What `--net` and `--net-ns` ask for.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The network of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    Host,
    /// Its own, with loopback alone.
    None,
    /// Every network that is configured.
    All,
    /// These networks, in this order.
    Networks(Vec<Wanted>),
    /// The namespace at this path, which is somebody else's.
    Given(PathBuf),
}

/// A network that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Arguments for its plugins, `KEY=VALUE;…`, as `CNI_ARGS` has them; mostly none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub args: String,
}

impl Network {
    /// Reads `host`, `none`, `all` or `NAME[:KEY=VALUE;…],…`.
    ///
    /// # Errors
    /// What is wrong with it; the message does not name the option.
    pub fn parse(text: &str) -> Result<Self> {
        let alone = match text {
            "host" => Some(Network::Host),
            "none" => Some(Network::None),
            "all" => Some(Network::All),
            _ => None,
        };
        if let Some(network) = alone {
            return Ok(network);
        }
        let mut networks: Vec<Wanted> = Vec::new();
        for item in text.split(',') {
            let wanted = Wanted::parse(item)?;
            let twice = networks.iter().any(|other| other.name == wanted.name);
            ensure!(!twice, "network {} is named twice", wanted.name);
            networks.push(wanted);
        }
        Ok(Network::Networks(networks))
    }

    /// Reads the path of a namespace.
    ///
    /// # Errors
    /// A path that is not absolute.
    pub fn given(path: &str) -> Result<Self> {
        ensure!(path.starts_with('/'), "{path:?} must be an absolute path");
        Ok(Network::Given(path.into()))
    }

    /// Whether plugins make it.
    pub fn has_plugins(&self) -> bool {
        matches!(self, Network::All | Network::Networks(_))
    }
}

impl Wanted {
    fn parse(item: &str) -> Result<Self> {
        let (name, args) = item.split_once(':').unwrap_or((item, ""));
        if ["host", "none", "all"].contains(&name) {
            bail!("{name} stands alone, without other networks and arguments");
        }
        ensure!(
            valid_name(name),
            "{name:?} is not the name of a network: a letter or digit, then letters, digits, '_', '.' and '-'"
        );
        for pair in args.split(';').filter(|pair| !pair.is_empty()) {
            let key = pair.split_once('=').map(|(key, _)| key);
            key.filter(|key| !key.is_empty())
                .with_context(|| format!("network {name}: argument {pair:?} must be KEY=VALUE"))?;
        }
        Ok(Wanted {
            name: name.to_owned(),
            args: args.trim_matches(';').to_owned(),
        })
    }
}

/// The names that the protocol allows for networks and containers.
pub(super) fn valid_name(name: &str) -> bool {
    let more = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.bytes().all(more) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl fmt::Display for Network {
    /// As `--net` has it; a namespace that is given is shown by its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Host => f.write_str("host"),
            Network::None => f.write_str("none"),
            Network::All => f.write_str("all"),
            Network::Given(path) => write!(f, "{}", path.display()),
            Network::Networks(networks) => {
                for (i, wanted) in networks.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    let colon = if wanted.args.is_empty() { "" } else { ":" };
                    write!(f, "{comma}{}{colon}{}", wanted.name, wanted.args)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_as_they_are_asked_for() {
        for text in ["host", "none", "all", "default", "a,b:IP=10.0.0.1;K=v=w,c"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        let Network::Networks(networks) = Network::parse("a,b:IP=10.0.0.1;").unwrap() else {
            panic!("not a list");
        };
        assert_eq!(networks[1].args, "IP=10.0.0.1");
        assert!(!Network::given("/run/netns/x").unwrap().has_plugins());
    }

    #[test]
    fn mistakes_are_named() {
        let rule = "is not the name of a network: a letter or digit, then letters, digits, '_', '.' and '-'";
        for (text, error) in [
            ("", format!("\"\" {rule}")),
            ("a,", format!("\"\" {rule}")),
            ("../x", format!("\"../x\" {rule}")),
            (
                "a,host",
                "host stands alone, without other networks and arguments".into(),
            ),
            (
                "none:IP=1.2.3.4",
                "none stands alone, without other networks and arguments".into(),
            ),
            ("a,b,a", "network a is named twice".into()),
            (
                "a:IP",
                "network a: argument \"IP\" must be KEY=VALUE".into(),
            ),
            (
                "a:=v",
                "network a: argument \"=v\" must be KEY=VALUE".into(),
            ),
        ] {
            assert_eq!(
                Network::parse(text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        let error = Network::given("netns").unwrap_err().to_string();
        assert_eq!(error, "\"netns\" must be an absolute path");
    }
}
