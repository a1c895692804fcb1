//! `--caps-retain` and `--caps-remove`.

use anyhow::{Result, bail};
use common::appc::Isolator;
use common::appc::isolator::{CAPABILITIES_REMOVE_SET, CAPABILITIES_RETAIN_SET};
use common::isolate::capability;
use serde_json::{Map, json};

/// The only capabilities to keep: names with commas between them.
pub(crate) fn caps_retain(text: &str) -> Result<Isolator> {
    isolator(CAPABILITIES_RETAIN_SET, text)
}

/// The capabilities to take away: names with commas between them.
pub(crate) fn caps_remove(text: &str) -> Result<Isolator> {
    isolator(CAPABILITIES_REMOVE_SET, text)
}

fn isolator(name: &str, text: &str) -> Result<Isolator> {
    let set: Vec<&str> = text.split(',').collect();
    let isolator = Isolator {
        name: name.parse()?,
        value: json!({"set": set}),
        extra: Map::new(),
    };
    // Only names are checked: which of them the kernel knows is for the stage1 to tell.
    match capability::bounding(std::slice::from_ref(&isolator), u8::MAX) {
        Ok(_) => Ok(isolator),
        // clap shows the outermost message of an error only.
        Err(err) => bail!("{err:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let retain = caps_retain("CAP_CHOWN,CAP_NET_ADMIN").unwrap();
        assert_eq!(
            serde_json::to_string(&retain).unwrap(),
            r#"{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_CHOWN","CAP_NET_ADMIN"]}}"#
        );
        let remove = caps_remove("CAP_MKNOD").unwrap();
        assert_eq!(remove.name.as_str(), "os/linux/capabilities-remove-set");
        let error = caps_retain("CAP_CHOWN,CAP_SYSADMIN")
            .unwrap_err()
            .to_string();
        assert!(error.contains("CAP_SYSADMIN"), "{error}");
        for text in ["", "CAP_CHOWN,", "chown", "CAP_NOPE"] {
            assert!(caps_retain(text).is_err(), "{text:?}");
            assert!(caps_remove(text).is_err(), "{text:?}");
        }
    }
}
