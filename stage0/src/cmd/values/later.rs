//! Options that rkt's users know and that are not supported yet: each fails and says so; none is taken and ignored.

use anyhow::{Result, bail};

use super::Network;

/// `--net`: only the networks that need no plugin.
pub(crate) fn network(text: &str) -> Result<Network> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => bail!("network {text:?} is not supported yet: only host and none are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(network("host").unwrap(), Network::Host);
        assert_eq!(network("none").unwrap(), Network::None);
        for text in ["default", "host,none", "", "none:IP=1.2.3.4"] {
            assert_eq!(
                network(text).unwrap_err().to_string(),
                format!("network {text:?} is not supported yet: only host and none are")
            );
        }
    }
}
