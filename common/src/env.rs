//! The environment of an app: what it holds, and the file that keeps it.
//!
//! The file (`rkt/env/APP`) has `NAME=VALUE` entries, each ended by a NUL byte as in `/proc/PID/environ`:
//! names may have `.` and `-` and values may have anything, newlines included (appc specification, "Environment
//! variables"), which no line format keeps and which systemd's own `EnvironmentFile=` refuses.

use crate::appc::EnvironmentVariable;

/// `PATH` of an app whose manifest names none (appc specification, "Execution Environment").
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `container` is set to, by which programs learn that they run in one.
pub const CONTAINER: &str = "rkt";

/// Names and values, in order, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The environment of the app `name`: what its manifest says, and the variables that the specification
    /// demands, which a manifest cannot change (except `PATH`).
    pub fn of_app(
        name: &str,
        manifest: &[EnvironmentVariable],
        metadata_url: Option<&str>,
    ) -> Self {
        let mut env = Environment::default();
        env.set("PATH", DEFAULT_PATH);
        for variable in manifest {
            env.set(&variable.name, &variable.value);
        }
        env.set("AC_APP_NAME", name);
        env.set("container", CONTAINER);
        if let Some(url) = metadata_url {
            env.set("AC_METADATA_URL", url);
        }
        env
    }

    /// Sets a variable, in the place it has already if it is set.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => value.clone_into(v),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// All variables, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// As the file keeps it.
    pub fn to_file(&self) -> String {
        self.0
            .iter()
            .map(|(name, value)| format!("{name}={value}\0"))
            .collect()
    }

    /// Reads what [`Environment::to_file`] wrote.
    ///
    /// # Errors
    /// When an entry has no `=`.
    pub fn from_file(content: &str) -> anyhow::Result<Self> {
        let mut env = Environment::default();
        for entry in content.split_terminator('\0') {
            let Some((name, value)) = entry.split_once('=') else {
                anyhow::bail!("{entry:?}: not NAME=VALUE");
            };
            env.set(name, value);
        }
        Ok(env)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> EnvironmentVariable {
        EnvironmentVariable {
            name: name.into(),
            value: value.into(),
            extra: Default::default(),
        }
    }

    #[test]
    fn the_manifest_sets_path_but_not_what_the_specification_sets() {
        let manifest = [
            variable("PATH", "/bin"),
            variable("AC_APP_NAME", "x"),
            variable("container", "y"),
        ];
        let env = Environment::of_app("app", &manifest, Some("http://127.0.0.1:18112/t"));
        let all: Vec<_> = env.iter().collect();
        let url = ("AC_METADATA_URL", "http://127.0.0.1:18112/t");
        assert_eq!(
            all,
            [
                ("PATH", "/bin"),
                ("AC_APP_NAME", "app"),
                ("container", CONTAINER),
                url
            ]
        );
    }

    #[test]
    fn the_file_keeps_everything() {
        let mut env = Environment::default();
        env.set("a.b-c", "line\nline = \"x\" $y %z \\");
        env.set("EMPTY", "");
        assert_eq!(Environment::from_file(&env.to_file()).unwrap(), env);
        assert_eq!(
            Environment::from_file("x").unwrap_err().to_string(),
            "\"x\": not NAME=VALUE"
        );
    }
}
