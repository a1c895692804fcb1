//! Configurations of networks: a file for each, a single plugin (`.conf`, `.json`) or a list of them (`.conflist`).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Version;
use super::list::valid_name;

/// A network as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The version of the protocol that its plugins are spoken to in.
    pub version: Version,
    /// Its plugins, in the order in which they are called; at least one.
    pub plugins: Vec<Plugin>,
    /// The file.
    pub source: PathBuf,
    /// Its plugins may be called with CHECK.
    pub check: bool,
    /// Its plugins may be called with GC.
    pub gc: bool,
}

/// A plugin of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// The name of its program.
    pub program: String,
    /// Its configuration, `type` too.
    pub config: Map<String, Value>,
}

/// The configurations of a folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// Those that are good, in the order of the names of their files.
    pub configs: Vec<Config>,
    /// What is wrong with the others; each names file and field.
    pub problems: Vec<anyhow::Error>,
}

/// Reads the configurations of a folder. One that is not there has none.
///
/// # Errors
/// When the folder cannot be read.
pub fn read_folder(dir: &Path) -> Result<Folder> {
    let context = || format!("read {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Folder::default()),
        entries => entries.with_context(context)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("conf" | "conflist" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    let mut folder = Folder::default();
    for file in files {
        match Config::read(&file) {
            Ok(config) => folder.configs.push(config),
            Err(err) => folder.problems.push(err),
        }
    }
    Ok(folder)
}

impl Config {
    fn read(path: &Path) -> Result<Self> {
        let read = || {
            let content = fs::read(path)?;
            let object: Map<String, Value> = serde_json::from_slice(&content)?;
            match path.extension().is_some_and(|e| e == "conflist") {
                true => Config::of_list(path, &object),
                false => Config::of_plugin(path, object),
            }
        };
        read().with_context(|| path.display().to_string())
    }

    fn of_list(path: &Path, object: &Map<String, Value>) -> Result<Self> {
        let plugins = object.get("plugins").context("plugins: must be given")?;
        let plugins = plugins.as_array().context("plugins: must be a list")?;
        ensure!(!plugins.is_empty(), "plugins: must not be empty");
        let plugin = |(i, plugin): (usize, &Value)| {
            let field = format!("plugins[{i}]");
            let object = plugin.as_object();
            let object = object.with_context(|| format!("{field}: must be an object"))?;
            Plugin::new(object.clone()).context(field)
        };
        let plugins = plugins.iter().enumerate().map(plugin);
        Ok(Config {
            name: name(object)?,
            version: version(object)?,
            plugins: plugins.collect::<Result<_>>()?,
            source: path.to_owned(),
            check: !boolean(object, "disableCheck")?,
            gc: !boolean(object, "disableGC")?,
        })
    }

    fn of_plugin(path: &Path, object: Map<String, Value>) -> Result<Self> {
        if object.contains_key("plugins") {
            bail!("plugins: a list of plugins belongs in a file named *.conflist");
        }
        Ok(Config {
            name: name(&object)?,
            version: version(&object)?,
            plugins: vec![Plugin::new(object)?],
            source: path.to_owned(),
            check: true,
            gc: true,
        })
    }

    /// Whether a plugin of it takes a capability from the runtime.
    pub fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.has_capability(name))
    }
}

impl Plugin {
    /// A plugin of this configuration.
    ///
    /// # Errors
    /// When `type` is not the name of a program, or `capabilities` no object; the message names the field.
    pub fn new(config: Map<String, Value>) -> Result<Self> {
        let program = text(&config, "type")?.context("type: must be given")?;
        // It is looked for in folders and executed: nothing that leads out of them.
        let plain = !program.contains(['/', '\0']) && !matches!(program, "" | "." | "..");
        ensure!(plain, "type: {program:?} is not the name of a program");
        let capabilities = config.get("capabilities");
        ensure!(
            capabilities.is_none_or(Value::is_object),
            "capabilities: must be an object"
        );
        Ok(Plugin {
            program: program.to_owned(),
            config,
        })
    }

    /// Whether it takes a capability from the runtime.
    pub fn has_capability(&self, name: &str) -> bool {
        let capabilities = self.config.get("capabilities");
        capabilities.and_then(|c| c.get(name)) == Some(&Value::Bool(true))
    }
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>> {
    let value = object.get(field);
    let text = |value: &'a Value| {
        value
            .as_str()
            .with_context(|| format!("{field}: must be a string"))
    };
    value.map(text).transpose()
}

fn boolean(object: &Map<String, Value>, field: &str) -> Result<bool> {
    match object.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        // Older libraries took the word as well.
        Some(Value::String(value)) if value == "true" || value == "false" => Ok(value == "true"),
        Some(_) => bail!("{field}: must be true or false"),
    }
}

fn name(object: &Map<String, Value>) -> Result<String> {
    let name = text(object, "name")?.context("name: must be given")?;
    ensure!(
        valid_name(name),
        "name: {name:?} is not the name of a network"
    );
    Ok(name.to_owned())
}

/// The version to speak: the one named, or the latest known of a list of them (1.1, `cniVersions`).
fn version(object: &Map<String, Value>) -> Result<Version> {
    let named = text(object, "cniVersion")?.filter(|version| !version.is_empty());
    let mut versions = Vec::new();
    if let Some(list) = object.get("cniVersions") {
        let list = list.as_array().context("cniVersions: must be a list")?;
        for (i, version) in list.iter().enumerate() {
            let version = version.as_str();
            let version = version.with_context(|| format!("cniVersions[{i}]: must be a string"))?;
            // Those of the future are for others.
            versions.extend(version.parse::<Version>().ok());
        }
    }
    match (versions.into_iter().max(), named) {
        (Some(latest), _) => Ok(latest),
        (None, Some(named)) => named.parse().context("cniVersion"),
        (None, None) => Ok(Version::FIRST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let dir = format!("{}/", dir.path().display());
        Config::read(&path).map_err(|err| format!("{err:#}").replace(&dir, ""))
    }

    #[test]
    fn single_plugins_and_lists() {
        let single = read("a.conf", r#"{"name":"a","type":"bridge","x":1}"#).unwrap();
        assert_eq!((single.version, single.plugins.len()), (Version::FIRST, 1));
        assert_eq!(single.plugins[0].config["x"], 1);
        let list = r#"{"cniVersion":"0.4.0","cniVersions":["9.0.0","1.1.0","1.0.0"],"name":"b","disableCheck":true,
            "plugins":[{"type":"ptp"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
        let list = read("b.conflist", list).unwrap();
        assert_eq!(
            (list.version, list.check, list.gc),
            (Version::GC, false, true)
        );
        assert!(list.has_capability("portMappings") && !list.has_capability("bandwidth"));
    }

    #[test]
    fn mistakes_name_file_and_field() {
        for (name, content, error) in [
            (
                "a.conf",
                "{",
                "a.conf: EOF while parsing an object at line 1 column 1",
            ),
            ("a.conf", "{}", "a.conf: name: must be given"),
            ("a.conf", r#"{"name":1}"#, "a.conf: name: must be a string"),
            (
                "a.conf",
                r#"{"name":"../a","type":"x"}"#,
                "a.conf: name: \"../a\" is not the name of a network",
            ),
            ("a.conf", r#"{"name":"a"}"#, "a.conf: type: must be given"),
            (
                "a.conf",
                r#"{"name":"a","type":"../x"}"#,
                "a.conf: type: \"../x\" is not the name of a program",
            ),
            (
                "a.conf",
                r#"{"name":"a","type":"x","cniVersion":"3.0.0"}"#,
                "a.conf: cniVersion: version 3.0.0 of the protocol is not known (0.1.0 to 1.1.0 are)",
            ),
            (
                "a.conf",
                r#"{"name":"a","plugins":[]}"#,
                "a.conf: plugins: a list of plugins belongs in a file named *.conflist",
            ),
            (
                "a.conflist",
                r#"{"name":"a"}"#,
                "a.conflist: plugins: must be given",
            ),
            (
                "a.conflist",
                r#"{"name":"a","plugins":[]}"#,
                "a.conflist: plugins: must not be empty",
            ),
            (
                "a.conflist",
                r#"{"name":"a","plugins":[{"type":"x"},{"type":3}]}"#,
                "a.conflist: plugins[1]: type: must be a string",
            ),
            (
                "a.conflist",
                r#"{"name":"a","plugins":[{"type":"x","capabilities":1}]}"#,
                "a.conflist: plugins[0]: capabilities: must be an object",
            ),
            (
                "a.conflist",
                r#"{"name":"a","plugins":[{"type":"x"}],"disableGC":1}"#,
                "a.conflist: disableGC: must be true or false",
            ),
        ] {
            assert_eq!(read(name, content).unwrap_err(), error);
        }
    }

    #[test]
    fn folders_are_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| fs::write(dir.path().join(name), content).unwrap();
        write("20-a.conf", r#"{"name":"a","type":"x"}"#);
        write("10-b.conflist", r#"{"name":"b","plugins":[{"type":"x"}]}"#);
        write("15-bad.json", "{}");
        write("README", "no configuration");
        let folder = read_folder(dir.path()).unwrap();
        let names: Vec<_> = folder.configs.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((names, folder.problems.len()), (vec!["b", "a"], 1));
        assert!(
            read_folder(&dir.path().join("none"))
                .unwrap()
                .configs
                .is_empty()
        );
    }
}
