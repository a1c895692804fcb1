//! `--volume`, `--mount` and `--mnt-volume`.

use anyhow::{Context as _, Result, bail, ensure};
use common::appc::{AcName, Mount, Volume, VolumeKind};

use super::fields;

/// `NAME,kind=host,source=/PATH[,readOnly=BOOL][,recursive=BOOL][,idmap=BOOL]` or `NAME,kind=empty[,mode=MODE][,uid=UID][,gid=GID]`.
pub(crate) fn volume(text: &str) -> Result<Volume> {
    let (name, rest) = text.split_once(',').context("must be NAME,kind=KIND,…")?;
    let mut volume = Volume {
        name: ac_name("volume name", name)?,
        kind: VolumeKind::Empty,
        source: None,
        read_only: None,
        recursive: None,
        idmap: None,
        mode: None,
        uid: None,
        gid: None,
        extra: serde_json::Map::new(),
    };
    let mut kind = None;
    for field in fields(rest) {
        let (key, value) = field?;
        match key {
            "kind" => once(&mut kind, key, volume_kind(value)?)?,
            "source" => once(&mut volume.source, key, absolute(key, value)?)?,
            "readOnly" => once(&mut volume.read_only, key, boolean(key, value)?)?,
            "recursive" => once(&mut volume.recursive, key, boolean(key, value)?)?,
            "idmap" => once(&mut volume.idmap, key, boolean(key, value)?)?,
            "mode" => once(&mut volume.mode, key, mode(value)?)?,
            "uid" => once(&mut volume.uid, key, id(key, value)?)?,
            "gid" => once(&mut volume.gid, key, id(key, value)?)?,
            _ => bail!(
                "{key}: unknown (known: kind, source, readOnly, recursive, idmap, mode, uid, gid)"
            ),
        }
    }
    volume.kind = kind.context("kind: must be given (host or empty)")?;
    check_kind(&volume)?;
    Ok(volume)
}

/// `volume=NAME,target=/PATH`.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    let (mut volume, mut target) = (None, None);
    for field in fields(text) {
        let (key, value) = field?;
        match key {
            "volume" => once(&mut volume, key, ac_name(key, value)?)?,
            "target" => once(&mut target, key, absolute(key, value)?)?,
            _ => bail!("{key}: unknown (known: volume, target)"),
        }
    }
    Ok(Mount {
        volume: volume.context("volume: must be given")?,
        path: target.context("target: must be given")?,
        app_volume: None,
        extra: serde_json::Map::new(),
    })
}

/// `name=NAME,target=/PATH` with what [`volume`] takes: a volume for one app.
pub(crate) fn app_volume(text: &str) -> Result<Mount> {
    let (mut name, mut target, mut rest) = (None, None, Vec::new());
    for field in fields(text) {
        let (key, value) = field?;
        match key {
            "name" => once(&mut name, key, value)?,
            "target" => once(&mut target, key, absolute(key, value)?)?,
            _ => rest.push(format!("{key}={value}")),
        }
    }
    let name = name.context("name: must be given")?;
    let volume = volume(&format!("{name},{}", rest.join(",")))?;
    Ok(Mount {
        volume: volume.name.clone(),
        path: target.context("target: must be given")?,
        app_volume: Some(volume),
        extra: serde_json::Map::new(),
    })
}

/// Each kind has parameters of its own.
fn check_kind(volume: &Volume) -> Result<()> {
    match volume.kind {
        VolumeKind::Host => {
            ensure!(
                volume.source.is_some(),
                "source: must be given for kind host"
            );
            let of_empty = volume.mode.is_some() || volume.uid.is_some() || volume.gid.is_some();
            ensure!(!of_empty, "mode, uid and gid: only for kind empty");
            ensure!(
                volume.idmap != Some(true) || volume.recursive != Some(true),
                "recursive: mounts below a volume cannot come along with idmap"
            );
        }
        VolumeKind::Empty => {
            ensure!(volume.source.is_none(), "source: only for kind host");
            ensure!(volume.recursive.is_none(), "recursive: only for kind host");
            ensure!(volume.idmap.is_none(), "idmap: only for kind host");
        }
    }
    Ok(())
}

fn volume_kind(value: &str) -> Result<VolumeKind> {
    match value {
        "host" => Ok(VolumeKind::Host),
        "empty" => Ok(VolumeKind::Empty),
        _ => bail!("kind={value}: must be host or empty"),
    }
}

fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<()> {
    ensure!(slot.is_none(), "{key}: given twice");
    *slot = Some(value);
    Ok(())
}

fn ac_name(what: &str, value: &str) -> Result<AcName> {
    match value.parse() {
        Ok(name) => Ok(name),
        Err(rule) => bail!("{what} {value:?}: {rule}"),
    }
}

fn absolute(key: &str, value: &str) -> Result<String> {
    ensure!(
        value.starts_with('/'),
        "{key}={value}: must be an absolute path"
    );
    Ok(value.to_owned())
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => bail!("{key}={value}: must be true or false"),
    }
}

fn mode(value: &str) -> Result<String> {
    let valid = (1..=5).contains(&value.len())
        && u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777)
        && !value.starts_with('+');
    ensure!(valid, "mode={value}: must be octal, at most 7777");
    Ok(value.to_owned())
}

fn id(key: &str, value: &str) -> Result<u32> {
    match value.parse() {
        // The last value means "unchanged" to chown(2).
        Ok(u32::MAX) | Err(_) => bail!("{key}={value}: must be a number below {}", u32::MAX),
        Ok(id) => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(volume: &Volume) -> String {
        serde_json::to_string(volume).unwrap()
    }

    #[test]
    fn volumes() {
        for (text, expected) in [
            (
                "d,kind=host,source=/p",
                r#"{"name":"d","kind":"host","source":"/p"}"#,
            ),
            (
                "d,kind=host,source=/p=q r,readOnly=true,recursive=false",
                r#"{"name":"d","kind":"host","source":"/p=q r","readOnly":true,"recursive":false}"#,
            ),
            (
                "d,source=/p,kind=host",
                r#"{"name":"d","kind":"host","source":"/p"}"#,
            ),
            (
                "d,kind=host,source=/p,idmap=true",
                r#"{"name":"d","kind":"host","source":"/p","idmap":true}"#,
            ),
            ("t-1,kind=empty", r#"{"name":"t-1","kind":"empty"}"#),
            (
                "t,kind=empty,readOnly=false",
                r#"{"name":"t","kind":"empty","readOnly":false}"#,
            ),
            (
                "t,kind=empty,mode=1777,uid=7,gid=0",
                r#"{"name":"t","kind":"empty","mode":"1777","uid":7,"gid":0}"#,
            ),
        ] {
            assert_eq!(json(&volume(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn volume_errors() {
        for (text, expected) in [
            ("", "must be NAME,kind=KIND,…"),
            ("d", "must be NAME,kind=KIND,…"),
            (
                "D,kind=empty",
                "volume name \"D\": must be lower-case letters and digits, with single '-' between them",
            ),
            ("d,", "\"\": must be KEY=VALUE"),
            ("d,kind", "\"kind\": must be KEY=VALUE"),
            ("d,=x", "\"=x\": must be KEY=VALUE"),
            ("d,source=/p", "kind: must be given (host or empty)"),
            ("d,kind=tmpfs", "kind=tmpfs: must be host or empty"),
            ("d,kind=host", "source: must be given for kind host"),
            ("d,kind=host,source=p", "source=p: must be an absolute path"),
            ("d,kind=host,source=", "source=: must be an absolute path"),
            ("d,kind=host,source=/p,source=/q", "source: given twice"),
            (
                "d,kind=host,source=/p,readOnly=yes",
                "readOnly=yes: must be true or false",
            ),
            (
                "d,kind=host,source=/p,recursive=",
                "recursive=: must be true or false",
            ),
            (
                "d,kind=host,source=/p,mode=0755",
                "mode, uid and gid: only for kind empty",
            ),
            ("d,kind=empty,source=/p", "source: only for kind host"),
            (
                "d,kind=empty,recursive=true",
                "recursive: only for kind host",
            ),
            ("d,kind=empty,idmap=true", "idmap: only for kind host"),
            (
                "d,kind=host,source=/p,recursive=true,idmap=true",
                "recursive: mounts below a volume cannot come along with idmap",
            ),
            (
                "d,kind=empty,mode=888",
                "mode=888: must be octal, at most 7777",
            ),
            (
                "d,kind=empty,mode=+7",
                "mode=+7: must be octal, at most 7777",
            ),
            (
                "d,kind=empty,mode=17777",
                "mode=17777: must be octal, at most 7777",
            ),
            ("d,kind=empty,mode=", "mode=: must be octal, at most 7777"),
            (
                "d,kind=empty,uid=-1",
                "uid=-1: must be a number below 4294967295",
            ),
            (
                "d,kind=empty,gid=4294967295",
                "gid=4294967295: must be a number below 4294967295",
            ),
            (
                "d,kind=empty,readonly=true",
                "readonly: unknown (known: kind, source, readOnly, recursive, idmap, mode, uid, gid)",
            ),
        ] {
            assert_eq!(volume(text).unwrap_err().to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn mounts() {
        let parsed = mount("volume=d,target=/a=b").unwrap();
        assert_eq!(
            (parsed.volume.as_str(), parsed.path.as_str()),
            ("d", "/a=b")
        );
        for (text, expected) in [
            ("", "\"\": must be KEY=VALUE"),
            ("volume=d", "target: must be given"),
            ("target=/p", "volume: must be given"),
            ("volume=d,target=p", "target=p: must be an absolute path"),
            (
                "volume=,target=/p",
                "volume \"\": must be lower-case letters and digits, with single '-' between them",
            ),
            ("volume=d,volume=e,target=/p", "volume: given twice"),
            (
                "volume=d,target=/p,readOnly=true",
                "readOnly: unknown (known: volume, target)",
            ),
        ] {
            assert_eq!(mount(text).unwrap_err().to_string(), expected, "{text:?}");
        }
    }
}
