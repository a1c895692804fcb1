//! Spans of time as people write them: seconds (`90`), or numbers with units as in systemd.time(7) (`1min 30s`).

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The longest span that is taken: more is a slip, and systemd counts in microseconds of 64 bits.
const MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads a span.
///
/// # Errors
/// What is no span, or a longer one than a year; the message has the text.
pub fn parse(text: &str) -> Result<Duration> {
    let text = text.trim();
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let span = if seconds {
        text.parse().map(Duration::from_secs).ok()
    } else {
        humantime::parse_duration(text).ok()
    };
    let span = span.with_context(|| {
        format!("{text:?} must be a span of time, in seconds or with units (90, 1min 30s, 500ms)")
    })?;
    if span > MAX {
        bail!("{text:?} must be at most a year");
    }
    Ok(span)
}

/// A span as systemd and [`parse`] read it.
pub fn format(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units() {
        let millis = |text: &str| parse(text).unwrap().as_millis();
        assert_eq!(millis("0"), 0);
        assert_eq!(millis(" 90 "), 90_000);
        assert_eq!(millis("500ms"), 500);
        assert_eq!(millis("1min 30s"), 90_000);
        assert_eq!(millis("2h30min"), 9_000_000);
        assert_eq!(format(parse("1min 30s").unwrap()), "1m 30s");
        assert_eq!(parse("1m 30s").unwrap(), parse("90").unwrap());
    }

    #[test]
    fn what_is_no_span_is_named() {
        for text in ["", "x", "-1", "1.5", "1 fortnight", "99999999999999999999"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?} must be a span")),
                "{error}"
            );
        }
        assert_eq!(
            parse("400d").unwrap_err().to_string(),
            "\"400d\" must be at most a year"
        );
    }
}
