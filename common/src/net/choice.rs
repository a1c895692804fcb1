//! Which of the configured networks a pod gets.

use anyhow::{Result, bail};

use super::{Config, Folder, Network};

/// What a pod gets that names other networks than the default ones, and what the host is reached by then.
const RESTRICTED: &str = "default-restricted";
/// What it gets that asks for all.
const DEFAULT: &str = "default";

/// A network that the pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// How it is configured.
    pub config: Config,
    /// Arguments for its plugins, `KEY=VALUE;…`.
    pub args: String,
}

/// Chooses as rkt does: of networks of one name the first counts; a pod that names its networks gets
/// `default-restricted` as the last one, and one that asks for all `default`, unless it has one of these already.
///
/// # Errors
/// A network that is not configured, or whose configuration may be one that is spoilt.
pub fn choose(network: &Network, folders: Vec<Folder>) -> Result<Vec<Chosen>> {
    let mut configs: Vec<Config> = Vec::new();
    let mut problems = Vec::new();
    let built_in = folders.len().saturating_sub(1);
    let mut own = 0;
    for (i, folder) in folders.into_iter().enumerate() {
        if i == built_in {
            own = configs.len();
        }
        for config in folder.configs {
            if !configs.iter().any(|other| other.name == config.name) {
                configs.push(config);
            }
        }
        problems.extend(folder.problems);
    }
    let all = *network == Network::All;
    let mut wanted: Vec<(String, String)> = match network {
        Network::Networks(list) => list
            .iter()
            .map(|w| (w.name.clone(), w.args.clone()))
            .collect(),
        Network::All => configs[..own]
            .iter()
            .map(|c| (c.name.clone(), String::new()))
            .collect(),
        _ => return Ok(Vec::new()),
    };
    if !wanted
        .iter()
        .any(|(name, _)| [DEFAULT, RESTRICTED].contains(&name.as_str()))
    {
        let last = if all { DEFAULT } else { RESTRICTED };
        wanted.push((last.to_owned(), String::new()));
    }
    if all && !problems.is_empty() {
        return Err(problems.remove(0));
    }
    let mut chosen = Vec::new();
    for (name, args) in wanted {
        match configs.iter().find(|config| config.name == name) {
            Some(config) => chosen.push(Chosen {
                config: config.clone(),
                args,
            }),
            None => match problems.pop() {
                // It may be the one.
                Some(problem) => return Err(problem.context(format!("network {name}"))),
                None => bail!(
                    "network {name} is not configured (there are: {})",
                    names(&configs)
                ),
            },
        }
    }
    Ok(chosen)
}

fn names(configs: &[Config]) -> String {
    let names: Vec<_> = configs.iter().map(|config| config.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::read_folder;
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        read_folder(dir.path()).unwrap()
    }

    fn chosen(net: &str, local: &[(&str, &str)]) -> Result<String, String> {
        let built_in = [
            ("99-a.conf", r#"{"name":"default","type":"ptp"}"#),
            ("99-b.conf", r#"{"name":"default-restricted","type":"ptp"}"#),
        ];
        let folders = vec![folder(local), folder(&built_in)];
        let chosen =
            choose(&Network::parse(net).unwrap(), folders).map_err(|e| format!("{e:#}"))?;
        let shown = |c: Chosen| {
            let program = &c.config.plugins[0].program;
            format!("{}/{program}/{}", c.config.name, c.args)
        };
        Ok(chosen.into_iter().map(shown).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_default_networks_come_last() {
        let a = ("10-a.conf", r#"{"name":"a","type":"bridge"}"#);
        let b = ("20-b.conf", r#"{"name":"b","type":"bridge"}"#);
        let default = ("30-d.conf", r#"{"name":"default","type":"macvlan"}"#);
        for (net, local, expected) in [
            ("default", &[a][..], "default/ptp/"),
            ("default-restricted", &[a], "default-restricted/ptp/"),
            (
                "b:X=1,a",
                &[a, b],
                "b/bridge/X=1 a/bridge/ default-restricted/ptp/",
            ),
            ("a,default", &[a], "a/bridge/ default/ptp/"),
            ("all", &[a, b], "a/bridge/ b/bridge/ default/ptp/"),
            ("all", &[], "default/ptp/"),
            ("all", &[default, a], "a/bridge/ default/macvlan/"),
            ("default", &[default], "default/macvlan/"),
            ("host", &[a], ""),
        ] {
            assert_eq!(chosen(net, local).unwrap(), expected, "{net}");
        }
    }

    #[test]
    fn what_is_missing_or_spoilt_is_told() {
        let bad = ("10-bad.conf", "{}");
        let a = ("20-a.conf", r#"{"name":"a","type":"bridge"}"#);
        let error = chosen("b", &[a]).unwrap_err();
        assert_eq!(
            error,
            "network b is not configured (there are: a, default, default-restricted)"
        );
        // Another one's mistake is not this one's.
        assert!(chosen("a", &[a, bad]).is_ok());
        let error = chosen("b", &[a, bad]).unwrap_err();
        assert!(
            error.starts_with("network b: /")
                && error.ends_with("10-bad.conf: name: must be given"),
            "{error}"
        );
        assert!(
            chosen("all", &[a, bad])
                .unwrap_err()
                .ends_with("10-bad.conf: name: must be given")
        );
    }
}
