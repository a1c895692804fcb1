//! systemd units as values: built in order, written by one serialiser.
//!
//! A value is written as it is, so each value that holds foreign text goes through the function of
//! [`escape`] that fits the directive's syntax.

pub mod escape;

use std::fmt;

/// The longest line that systemd 252 reads from a unit file (`LONG_LINE_MAX` in its source), in bytes, with its
/// newline. A unit with a longer one does not load at all.
pub const LINE_MAX: usize = 1024 * 1024;

/// A unit: its file name and its sections in order. Keys may repeat, as in systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: String,
    sections: Vec<(&'static str, Vec<(&'static str, String)>)>,
}

impl Unit {
    /// An empty unit with the file name `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Unit {
            name: name.into(),
            sections: Vec::new(),
        }
    }

    /// The unit's file name, `app-redis.service`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a section; the assignments that follow belong to it.
    #[must_use]
    pub fn section(mut self, name: &'static str) -> Self {
        self.sections.push((name, Vec::new()));
        self
    }

    /// Adds `key=value` to the section started last.
    ///
    /// # Panics
    /// When no section was started: a mistake in the program, not in its input.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        let (_, entries) = self
            .sections
            .last_mut()
            .expect("a section before its first assignment");
        entries.push((key, value.into()));
        self
    }

    /// Adds `key=value` when there is a value.
    #[must_use]
    pub fn set_some(self, key: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// The first assignment whose line systemd would not read, for its length.
    pub fn too_long(&self) -> Option<&'static str> {
        let entries = self.sections.iter().flat_map(|(_, entries)| entries);
        entries
            .filter(|(key, value)| key.len() + value.len() + 2 > LINE_MAX)
            .map(|(key, _)| *key)
            .next()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (section, entries)) in self.sections.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "[{section}]")?;
            for (key, value) in entries {
                writeln!(f, "{key}={value}")?;
            }
        }
        Ok(())
    }
}

/// The unit that runs an app. Names of apps (appc AC names) need no escaping in unit names.
pub fn app_unit(app: &str) -> String {
    format!("app-{app}.service")
}

/// The unit of the sockets of an app. systemd gives them to the service of the same name.
pub fn socket_unit(app: &str) -> String {
    format!("app-{app}.socket")
}

/// The unit of the sockets of an app that the caller of the run entrypoint has passed.
pub fn passed_unit(app: &str) -> String {
    format!("passed-{app}.socket")
}

/// The unit that looks whether an app is well, once.
pub fn health_unit(app: &str) -> String {
    format!("health-{app}.service")
}

/// The unit that has [`health_unit`] do so time and again.
pub fn health_timer(app: &str) -> String {
    format!("health-{app}.timer")
}

/// The socket on which apps hand their streams over to [`MUX_UNIT`] (in the image, `rootfs/`).
pub const MUX_SOCKET_UNIT: &str = "iottymux.socket";

/// What serves the streams of apps to which one can attach.
pub const MUX_UNIT: &str = "iottymux.service";

/// All units that an app may have: its own and those that belong to it.
pub fn app_units(app: &str) -> [String; 5] {
    [
        app_unit(app),
        socket_unit(app),
        passed_unit(app),
        health_timer(app),
        health_unit(app),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_in_order_with_repeated_keys() {
        let unit = Unit::new("a.service")
            .section("Unit")
            .set("After", "b")
            .set("After", "c");
        let unit = unit
            .section("Service")
            .set("ExecStart", "/x")
            .set_some("User", None::<String>);
        assert_eq!(
            unit.to_string(),
            "[Unit]\nAfter=b\nAfter=c\n\n[Service]\nExecStart=/x\n"
        );
    }

    #[test]
    fn knows_the_longest_line() {
        let fits = "x".repeat(LINE_MAX - "ExecStart=\n".len());
        let unit = |value: String| {
            Unit::new("a.service")
                .section("Service")
                .set("ExecStart", value)
        };
        assert_eq!(unit(fits.clone()).too_long(), None);
        assert_eq!(unit(fits + "x").too_long(), Some("ExecStart"));
    }
}
