//! Security modules: the SELinux context and the AppArmor profile of an app.
//!
//! Both are asked of the kernel for the next program that is executed, by `prepare-app` itself as one of its last
//! steps: with `SELinuxContext=` or `AppArmorProfile=` of the unit systemd would confine `prepare-app` already, which
//! has mounts to make.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::appc::Isolator;
use crate::appc::isolator::{APPARMOR_PROFILE, SELINUX_CONTEXT, isolator};

/// The SELinux context that `isolators` ask for, as the kernel spells it.
///
/// # Errors
/// A part that is missing or no text; the message names the isolator.
pub fn selinux(isolators: &[Isolator]) -> Result<Option<String>> {
    let Some(asked) = isolator(isolators, SELINUX_CONTEXT) else {
        return Ok(None);
    };
    let parts = ["user", "role", "type", "level"].map(|key| part(&asked.value, key));
    let parts: Result<Vec<_>> = parts.into_iter().collect();
    Ok(Some(parts.context(SELINUX_CONTEXT)?.join(":")))
}

/// The AppArmor profile that `isolators` ask for.
///
/// # Errors
/// A name that is missing or no text; the message names the isolator.
pub fn apparmor(isolators: &[Isolator]) -> Result<Option<String>> {
    let asked = isolator(isolators, APPARMOR_PROFILE);
    asked
        .map(|asked| part(&asked.value, "profile").context(APPARMOR_PROFILE))
        .transpose()
}

/// Refuses a profile that is not among the `loaded` ones.
pub fn check_loaded(profile: &str, loaded: &[String]) -> Result<()> {
    match profile == "unconfined" || loaded.iter().any(|known| known == profile) {
        true => Ok(()),
        false => bail!("{APPARMOR_PROFILE}: profile: {profile:?} is not loaded on this host"),
    }
}

/// Refuses a context that the host's policy does not allow; `root` is that of the host. The kernel checks what is written
/// to the file `context` of selinuxfs.
pub fn check_context(root: &Path, context: &str) -> Result<()> {
    let path = root.join("sys/fs/selinux/context");
    let file = File::options().write(true).open(&path);
    let mut file = file.with_context(|| format!("open {}", path.display()))?;
    // All of it in one write, as the kernel wants it.
    match file.write(context.as_bytes()) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == ErrorKind::InvalidInput => {
            bail!("the SELinux policy of this host knows no context {context:?}")
        }
        Err(err) => Err(err).with_context(|| format!("write {}", path.display())),
    }
}

/// The names in `/sys/kernel/security/apparmor/profiles`, whose lines are `NAME (MODE)`.
pub fn profiles(content: &str) -> Vec<String> {
    let names = content.lines().filter_map(|line| line.rsplit_once(" ("));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn part(value: &Value, key: &str) -> Result<String> {
    let text = value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("{key}: must be a text"))?;
    if text.is_empty() || text.chars().any(char::is_control) {
        bail!("{key}: {text:?} must not be empty or have control characters");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(name: &str, value: Value) -> Vec<Isolator> {
        serde_json::from_value(json!([{"name": name, "value": value}])).unwrap()
    }

    #[test]
    fn contexts() {
        let value =
            json!({"user": "system_u", "role": "system_r", "type": "dhcpc_t", "level": "s0:c1,c2"});
        assert_eq!(
            selinux(&list(SELINUX_CONTEXT, value)).unwrap().unwrap(),
            "system_u:system_r:dhcpc_t:s0:c1,c2"
        );
        let error = selinux(&list(SELINUX_CONTEXT, json!({"user": "u", "role": 1}))).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "os/linux/selinux-context: role: must be a text"
        );
    }

    #[test]
    fn profiles_must_be_loaded() {
        let loaded = profiles("docker-default (enforce)\n/usr/bin/my app (complain)\n");
        assert_eq!(loaded, ["docker-default", "/usr/bin/my app"]);
        let asked = |name| apparmor(&list(APPARMOR_PROFILE, json!({"profile": name}))).unwrap();
        check_loaded(&asked("docker-default").unwrap(), &loaded).unwrap();
        assert_eq!(
            check_loaded(&asked("none").unwrap(), &loaded)
                .unwrap_err()
                .to_string(),
            "os/linux/apparmor-profile: profile: \"none\" is not loaded on this host"
        );
        assert!(apparmor(&list(APPARMOR_PROFILE, json!("x"))).is_err());
    }
}
