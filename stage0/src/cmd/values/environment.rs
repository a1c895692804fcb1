//! `--environment`, `--set-env`, and the options that add metadata.

use anyhow::{Context as _, Result, bail, ensure};
use common::appc::{Annotation, EnvironmentVariable};

/// `NAME=VALUE`; the value is anything.
pub(crate) fn environment(text: &str) -> Result<EnvironmentVariable> {
    let (name, value) = pair(text)?;
    let valid = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    ensure!(
        valid && name.starts_with(first),
        "variable name {name:?}: must be letters, digits, '_', '.' and '-', with no digit, '.' or '-' first"
    );
    Ok(EnvironmentVariable {
        name,
        value,
        extra: serde_json::Map::new(),
    })
}

/// `NAME=VALUE` of an annotation: the name is an identifier of the appc specification.
pub(crate) fn annotation(text: &str) -> Result<Annotation> {
    let (name, value) = pair(text)?;
    match name.parse() {
        Ok(name) => Ok(Annotation {
            name,
            value,
            extra: serde_json::Map::new(),
        }),
        Err(rule) => bail!("annotation name {name:?}: {rule}"),
    }
}

/// `NAME=VALUE` without further rules.
pub(crate) fn pair(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("must be NAME=VALUE")?;
    ensure!(
        !name.is_empty(),
        "must be NAME=VALUE, and the name not empty"
    );
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("A=", "A", ""),
            ("a.b-c_9=x=y\nz", "a.b-c_9", "x=y\nz"),
        ] {
            let parsed = environment(text).unwrap();
            assert_eq!((parsed.name.as_str(), parsed.value.as_str()), (name, value));
        }
        let rule = "must be letters, digits, '_', '.' and '-', with no digit, '.' or '-' first";
        for (text, expected) in [
            ("A", "must be NAME=VALUE".to_owned()),
            (
                "=b",
                "must be NAME=VALUE, and the name not empty".to_owned(),
            ),
            ("A B=c", format!("variable name \"A B\": {rule}")),
            ("1A=c", format!("variable name \"1A\": {rule}")),
            (".A=c", format!("variable name \".A\": {rule}")),
            ("ü=c", format!("variable name \"ü\": {rule}")),
        ] {
            assert_eq!(environment(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn annotations() {
        let parsed = annotation("coreos.com/rkt/x=1=2").unwrap();
        assert_eq!(parsed.name.as_str(), "coreos.com/rkt/x");
        assert_eq!(parsed.value, "1=2");
        assert_eq!(
            annotation("a").unwrap_err().to_string(),
            "must be NAME=VALUE"
        );
        assert!(
            annotation("A=b")
                .unwrap_err()
                .to_string()
                .starts_with("annotation name \"A\": must be lower-case")
        );
    }
}
