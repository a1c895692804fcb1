//! The names of this project's annotations, and where each may stand. `docs/annotations.md` is this table for users.

use anyhow::{Result, bail};

use crate::alike;
use crate::appc::Annotation;

/// What the names of this project's annotations begin with.
pub const PREFIX: &str = "stage1/";

/// How the pod ends.
pub const EXIT_POLICY: &str = "stage1/exit-policy";
/// How large the pod's journal may become, in bytes.
pub const JOURNAL_MAX_SIZE: &str = "stage1/journal-max-size";
/// Whether an app is started again after its end.
pub const RESTART: &str = "stage1/restart";
/// How long the first wait before a restart is.
pub const RESTART_DELAY: &str = "stage1/restart-delay";
/// The signal that asks an app to end.
pub const STOP_SIGNAL: &str = "stage1/stop-signal";
/// How long an app may take to end.
pub const STOP_TIMEOUT: &str = "stage1/stop-timeout";
/// How long an app may take until it says that it is ready.
pub const START_TIMEOUT: &str = "stage1/start-timeout";
/// With the credential's name behind it: the host's file that an app gets as that credential.
pub const CREDENTIAL: &str = "stage1/credential/";
/// The command that tells whether an app is well.
pub const HEALTH_EXEC: &str = "stage1/health-exec";
/// How long the wait between two of these commands is.
pub const HEALTH_INTERVAL: &str = "stage1/health-interval";
/// How long one may take.
pub const HEALTH_TIMEOUT: &str = "stage1/health-timeout";
/// After how many failures in a row an app counts as unhealthy.
pub const HEALTH_RETRIES: &str = "stage1/health-retries";
/// What is done with an unhealthy app.
pub const HEALTH_ACTION: &str = "stage1/health-action";
/// Whether what an app says on streams to which one can attach is logged, too.
pub const LOG_STREAMS: &str = "stage1/log-streams";

/// What an annotation stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The pod manifest.
    Pod,
    /// An app of the pod manifest.
    App,
    /// The manifest of an app's image.
    Image,
}

/// The places of annotations that an image may bring and the pod manifest may change.
const APPS: &[Place] = &[Place::App, Place::Image];

/// Every name, with its places. An image may not name files of the host.
const KEYS: [(&str, &[Place]); 14] = [
    (EXIT_POLICY, &[Place::Pod]),
    (JOURNAL_MAX_SIZE, &[Place::Pod]),
    (RESTART, APPS),
    (RESTART_DELAY, APPS),
    (STOP_SIGNAL, APPS),
    (STOP_TIMEOUT, APPS),
    (START_TIMEOUT, APPS),
    (CREDENTIAL, &[Place::App]),
    (HEALTH_EXEC, APPS),
    (HEALTH_INTERVAL, APPS),
    (HEALTH_TIMEOUT, APPS),
    (HEALTH_RETRIES, APPS),
    (HEALTH_ACTION, APPS),
    (LOG_STREAMS, APPS),
];

/// Checks that the names of this project's are known, and stand where they mean something.
///
/// # Errors
/// A name that is not known or has no meaning at `place`; the message has it.
pub fn check(annotations: &[Annotation], place: Place) -> Result<()> {
    for name in annotations
        .iter()
        .map(|annotation| annotation.name.as_str())
    {
        if !name.starts_with(PREFIX) {
            continue;
        }
        let known = KEYS.iter().find(|(key, _)| match *key {
            CREDENTIAL => name.starts_with(CREDENTIAL),
            key => key == name,
        });
        match known {
            None => {
                let meant = alike::meant(name, KEYS.map(|(key, _)| key), PREFIX);
                bail!("annotation {name}: is not known{meant}");
            }
            Some((_, places)) if !places.contains(&place) => {
                bail!("annotation {name}: {}", misplaced(places, place));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn misplaced(places: &[Place], place: Place) -> &'static str {
    match (places, place) {
        (_, Place::Pod) => "is of an app, not of the pod",
        ([Place::Pod], _) => "is of the pod, not of an app",
        _ => "must be given in the pod manifest: an image cannot name files of the host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, place: Place) -> String {
        let annotation = serde_json::json!({ "name": name, "value": "x" });
        let annotations = [serde_json::from_value(annotation).unwrap()];
        check(&annotations, place).map_or_else(|err| err.to_string(), |()| String::new())
    }

    #[test]
    fn unknown_names_are_refused_with_what_was_meant() {
        assert_eq!(
            error("stage1/restrat", Place::App),
            "annotation stage1/restrat: is not known; is stage1/restart or stage1/restart-delay meant?"
        );
        assert_eq!(
            error("stage1/xyz", Place::Pod),
            "annotation stage1/xyz: is not known"
        );
        assert_eq!(error("example.com/restrat", Place::App), "");
    }

    #[test]
    fn names_have_their_places() {
        assert_eq!(
            error(RESTART, Place::Pod),
            "annotation stage1/restart: is of an app, not of the pod"
        );
        assert_eq!(
            error(EXIT_POLICY, Place::App),
            "annotation stage1/exit-policy: is of the pod, not of an app"
        );
        assert_eq!(
            error("stage1/credential/key", Place::Image),
            "annotation stage1/credential/key: must be given in the pod manifest: an image cannot name files of the host"
        );
        for (name, places) in KEYS {
            for place in places {
                assert_eq!(
                    error(
                        &format!("{name}{}", if name == CREDENTIAL { "a" } else { "" }),
                        *place
                    ),
                    ""
                );
            }
        }
    }

    #[test]
    fn every_name_is_explained_to_users() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/annotations.md");
        let table = std::fs::read_to_string(path).unwrap();
        for (name, _) in KEYS {
            assert!(table.contains(&format!("| `{name}")), "{name}");
        }
    }
}
