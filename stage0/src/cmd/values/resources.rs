//! `--memory`, `--cpu`, `--cpu-shares` and `--oom-score-adj`: isolators, each in place of the image's.

use anyhow::{Context, Result, bail};
use common::appc::Isolator;
use common::appc::isolator::{CPU, CPU_SHARES, MEMORY, OOM_SCORE_ADJ};
use common::isolate::resource::Resources;
use serde_json::{Map, Value, json};

/// The limit of memory: `512M`, `64Mi`.
pub(crate) fn memory(text: &str) -> Result<Isolator> {
    isolator(MEMORY, limit(text))
}

/// The limit of processor time: `1.5`, `500m`.
pub(crate) fn cpu(text: &str) -> Result<Isolator> {
    isolator(CPU, limit(text))
}

/// The weight in the sharing of processors.
pub(crate) fn cpu_shares(text: &str) -> Result<Isolator> {
    isolator(CPU_SHARES, number(text)?)
}

/// How readily the kernel kills the app when memory is short.
pub(crate) fn oom_score_adj(text: &str) -> Result<Isolator> {
    isolator(OOM_SCORE_ADJ, number(text)?)
}

/// As rkt writes it: what is the most is what is asked for. Here a request would change how the kernel shares, so there
/// is none.
fn limit(text: &str) -> Value {
    json!({"limit": text})
}

fn number(text: &str) -> Result<Value> {
    let number: i64 = text
        .parse()
        .with_context(|| format!("{text:?}: must be a number"))?;
    Ok(number.into())
}

fn isolator(name: &str, value: Value) -> Result<Isolator> {
    let isolator = Isolator {
        name: name.parse()?,
        value,
        extra: Map::new(),
    };
    match Resources::parse(std::slice::from_ref(&isolator)) {
        Ok(_) => Ok(isolator),
        // clap shows the outermost message of an error only.
        Err(err) => bail!("{err:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let written =
            |isolator: Result<Isolator>| serde_json::to_string(&isolator.unwrap()).unwrap();
        for (isolator, expected) in [
            (
                memory("512M"),
                r#"{"name":"resource/memory","value":{"limit":"512M"}}"#,
            ),
            (
                cpu("500m"),
                r#"{"name":"resource/cpu","value":{"limit":"500m"}}"#,
            ),
            (
                cpu_shares("512"),
                r#"{"name":"os/linux/cpu-shares","value":512}"#,
            ),
            (
                oom_score_adj("-5"),
                r#"{"name":"os/linux/oom-score-adj","value":-5}"#,
            ),
        ] {
            assert_eq!(written(isolator), expected);
        }
        for (isolator, expected) in [
            (
                memory("1MB"),
                "resource/memory: limit: \"1MB\": must be a number with a suffix",
            ),
            (memory("0"), "resource/memory: limit: must be more than 0"),
            (cpu(""), "resource/cpu: limit: \"\": must be a number"),
            (
                cpu_shares("1"),
                "os/linux/cpu-shares: 1 must be a number from 2 to 262144",
            ),
            (cpu_shares("x"), "\"x\": must be a number"),
            (
                oom_score_adj("1001"),
                "os/linux/oom-score-adj: 1001 must be",
            ),
        ] {
            let error = isolator.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
