//! Logs for Kubernetes: the annotations by which a stage0 asks for them (contract.md, "Markers in manifests").

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::annotation::{KUBERNETES_LOG_DIR, KUBERNETES_LOG_PATH, LOG_MODE};
use crate::appc::{Annotation, annotation};

/// The one mode there is.
const K8S_PLAIN: &str = "k8s-plain";

/// The directory of the host below which the apps of a pod are logged, when its annotations ask for it.
///
/// # Errors
/// A mode that there is not, or no directory.
pub fn directory(pod: &[Annotation]) -> Result<Option<PathBuf>> {
    match annotation(pod, LOG_MODE) {
        None | Some("") => return Ok(None),
        Some(K8S_PLAIN) => {}
        Some(mode) => bail!("annotation {LOG_MODE}: unknown mode {mode:?}"),
    }
    let dir = annotation(pod, KUBERNETES_LOG_DIR)
        .with_context(|| format!("annotation {KUBERNETES_LOG_DIR}: {K8S_PLAIN} needs it"))?;
    ensure!(
        Path::new(dir).is_absolute(),
        "annotation {KUBERNETES_LOG_DIR}: {dir:?} must be an absolute path"
    );
    Ok(Some(dir.into()))
}

/// The file of an app, a path below that directory.
///
/// # Errors
/// None, or one that could lead elsewhere.
pub fn file(app: &[Annotation]) -> Result<String> {
    let path = annotation(app, KUBERNETES_LOG_PATH)
        .with_context(|| format!("annotation {KUBERNETES_LOG_PATH}: {K8S_PLAIN} needs it"))?;
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    ensure!(
        plain && !path.is_empty() && !path.ends_with('/'),
        "annotation {KUBERNETES_LOG_PATH}: {path:?} must be the path of a file below the log directory"
    );
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(of: &[(&str, &str)]) -> Vec<Annotation> {
        let one = |(name, value): &(&str, &str)| {
            serde_json::from_value(serde_json::json!({ "name": name, "value": value })).unwrap()
        };
        of.iter().map(one).collect()
    }

    #[test]
    fn of_pods() {
        let read = |of: &[(&str, &str)]| directory(&annotations(of)).map_err(|e| e.to_string());
        assert_eq!(read(&[(KUBERNETES_LOG_DIR, "/l")]).unwrap(), None);
        let both = [(LOG_MODE, "k8s-plain"), (KUBERNETES_LOG_DIR, "/l")];
        assert_eq!(read(&both).unwrap(), Some("/l".into()));
        for wrong in [
            &[(LOG_MODE, "k8s")][..],
            &[(LOG_MODE, "k8s-plain")],
            &[(LOG_MODE, "k8s-plain"), (KUBERNETES_LOG_DIR, "l")],
        ] {
            let name = if wrong[0].1 == "k8s" {
                LOG_MODE
            } else {
                KUBERNETES_LOG_DIR
            };
            assert!(read(wrong).unwrap_err().contains(name), "{wrong:?}");
        }
    }

    #[test]
    fn of_apps() {
        let read = |path| file(&annotations(&[(KUBERNETES_LOG_PATH, path)]));
        for path in ["web_0.log", "web/0.log"] {
            assert_eq!(read(path).unwrap(), path);
        }
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a/", "./a"] {
            assert!(read(path).is_err(), "{path:?}");
        }
        assert!(file(&[]).is_err());
    }
}
