//! The plan as `--debug` prints it.

use std::fmt;

use super::{PodPlan, SECRET, Step, Supervisor};

impl fmt::Display for PodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.cgroup.scope {
            "made by systemd"
        } else {
            "made by init"
        };
        writeln!(f, "cgroup {} ({who})", self.cgroup.path.display())?;
        for report in &self.isolators {
            writeln!(f, "{report}")?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
            if let Step::File { content, mode, .. } = step {
                show_content(f, content, *mode)?;
            }
        }
        self.supervisor.fmt(f)
    }
}

/// One line.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Step::File { .. } => write!(f, "file {path}"),
            Step::NoFile { .. } => write!(f, "no file {path}"),
            Step::Link { target, .. } => write!(f, "link {path} -> {}", target.display()),
            Step::Volume {
                mode,
                uid,
                gid,
                filled_from,
                ..
            } => {
                write!(f, "volume {path} mode {mode:04o} owner {uid}:{gid}")?;
                match filled_from {
                    Some((root, path)) => {
                        write!(f, " filled from {} of {}", path.display(), root.display())
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

fn show_content(f: &mut fmt::Formatter<'_>, content: &[u8], mode: u32) -> fmt::Result {
    if mode == SECRET {
        return writeln!(f, "    (secret)");
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return writeln!(f, "    (binary)");
    };
    let text = text.replace('\0', "\n");
    text.lines().try_for_each(|line| writeln!(f, "    {line}"))
}

impl fmt::Display for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.network {
            Some(network) => writeln!(f, "run in the network {}", network.display())?,
            None => writeln!(f, "run")?,
        }
        for (name, value) in &self.environment {
            writeln!(f, "    {name}={value}")?;
        }
        self.command
            .iter()
            .try_for_each(|word| writeln!(f, "    {word}"))
    }
}
