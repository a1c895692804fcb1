//! `--seccomp`.

use anyhow::{Result, bail};
use common::appc::Isolator;
use common::appc::isolator::{SECCOMP_REMOVE_SET, SECCOMP_RETAIN_SET};
use common::isolate::seccomp;
use serde_json::{Map, json};

/// A filter as rkt spells it: `mode=retain|remove[,errno=NAME],CALL,…`.
pub(crate) fn seccomp(text: &str) -> Result<Isolator> {
    let (mut mode, mut errno, mut set) = (None, None, Vec::new());
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("mode", "retain")) if mode.is_none() => mode = Some(SECCOMP_RETAIN_SET),
            Some(("mode", "remove")) if mode.is_none() => mode = Some(SECCOMP_REMOVE_SET),
            Some(("mode", other)) if mode.is_none() => {
                bail!("mode {other:?}: must be retain or remove")
            }
            Some(("errno", name)) if errno.is_none() => errno = Some(name),
            Some((key @ ("mode" | "errno"), _)) => bail!("{key}: must be given once"),
            Some((key, _)) => bail!("{key:?}: unknown (known: mode, errno)"),
            None => set.push(word),
        }
    }
    let Some(mode) = mode else {
        bail!("mode: must be given, retain or remove")
    };
    let mut value = json!({ "set": set });
    if let Some(errno) = errno {
        value["errno"] = errno.into();
    }
    let isolator = Isolator {
        name: mode.parse()?,
        value,
        extra: Map::new(),
    };
    match seccomp::request(std::slice::from_ref(&isolator)) {
        Ok(_) => Ok(isolator),
        // clap shows the outermost message of an error only.
        Err(err) => bail!("{err:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_errors_and_calls() {
        let retain = seccomp("mode=retain,errno=EPERM,read,write").unwrap();
        assert_eq!(retain.name.as_str(), SECCOMP_RETAIN_SET);
        let expected = json!({"set": ["read", "write"], "errno": "EPERM"});
        assert_eq!(retain.value, expected);
        let remove = seccomp("mode=remove,@docker/default-blacklist").unwrap();
        assert_eq!(remove.name.as_str(), SECCOMP_REMOVE_SET);
        assert_eq!(remove.value, json!({"set": ["@docker/default-blacklist"]}));
        for (text, expected) in [
            ("read", "mode: must be given, retain or remove"),
            ("mode=keep,read", "mode \"keep\": must be retain or remove"),
            ("mode=retain,mode=remove,read", "mode: must be given once"),
            (
                "mode=retain,colour=red,read",
                "\"colour\": unknown (known: mode, errno)",
            ),
            (
                "mode=retain",
                "os/linux/seccomp-retain-set: set: must not be empty",
            ),
            (
                "mode=retain,errno=EFOO,read",
                "os/linux/seccomp-retain-set: errno: \"EFOO\" is not the name of an error",
            ),
        ] {
            assert_eq!(seccomp(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
