//! Amounts as manifests spell them: `1.5`, `500m`, `64Mi`, `2e3` (Kubernetes calls them quantities, and the appc
//! specification takes them over for its resource isolators).

use std::str::FromStr;

use thiserror::Error;

/// Suffixes, each with the power of ten or of 1024 that it stands for. The fractions are shifted by [`NANO`].
const SUFFIXES: [(&str, u128); 16] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANO),
    ("k", NANO * 1_000),
    ("K", NANO * 1_000),
    ("M", NANO * 1_000_000),
    ("G", NANO * 1_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("E", NANO * 1_000_000_000_000_000_000),
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
];

/// How many billionths make one.
const NANO: u128 = 1_000_000_000;

/// Exponents beyond this are of no amount that anything has.
const MAX_EXPONENT: i32 = 30;

/// An amount that is not negative, exact to a billionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(u128);

/// What is wrong with an amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// It is not of the form.
    #[error(
        "must be a number with a suffix out of n u m k M G T P E Ki Mi Gi Ti Pi Ei, or with an exponent"
    )]
    Form,
    /// It is below zero.
    #[error("must not be negative")]
    Negative,
    /// It is above all that can be counted.
    #[error("is too large")]
    TooLarge,
}

impl Quantity {
    /// In thousandths, rounded up: what is more than nothing stays so.
    pub fn milli(self) -> u64 {
        u64::try_from(self.0.div_ceil(NANO / 1_000)).unwrap_or(u64::MAX)
    }

    /// In whole units, rounded up.
    pub fn units(self) -> u64 {
        u64::try_from(self.0.div_ceil(NANO)).unwrap_or(u64::MAX)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.starts_with('-') {
            return Err(QuantityError::Negative);
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return Err(QuantityError::Form);
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits: u128 = digits.parse().map_err(|_| QuantityError::TooLarge)?;
        let places = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
        let divisor = 10_u128.checked_pow(places).ok_or(QuantityError::TooLarge)?;
        let nano = digits
            .checked_mul(multiplier(suffix)?)
            .ok_or(QuantityError::TooLarge)?
            .div_ceil(divisor);
        // More than this no counter of the kernel takes.
        if nano.div_ceil(NANO) > u128::from(u64::MAX) {
            return Err(QuantityError::TooLarge);
        }
        Ok(Quantity(nano))
    }
}

/// What a number is multiplied by for its suffix, in billionths.
fn multiplier(suffix: &str) -> Result<u128, QuantityError> {
    if suffix == "Ei" {
        return Ok(NANO << 60);
    }
    if let Some((_, multiplier)) = SUFFIXES.iter().find(|(known, _)| *known == suffix) {
        return Ok(*multiplier);
    }
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .and_then(|digits| digits.parse::<i32>().ok())
        .ok_or(QuantityError::Form)?;
    if exponent > MAX_EXPONENT {
        return Err(QuantityError::TooLarge);
    }
    // Below a billionth there is one billionth: an amount is rounded up.
    let power = |e: i32| 10_u128.checked_pow(e.unsigned_abs());
    if exponent < 0 {
        Ok(power(exponent).map_or(1, |p| (NANO / p).max(1)))
    } else {
        power(exponent)
            .and_then(|p| NANO.checked_mul(p))
            .ok_or(QuantityError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_thousandths() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1_000),
            ("1.5", 1_500),
            ("100m", 100),
            ("1m", 1),
            ("0.5m", 1),
            ("1n", 1),
            ("250u", 1),
            ("+2", 2_000),
            (".5", 500),
            ("1.", 1_000),
            ("1e3", 1_000_000),
            ("1E-1", 100),
            ("1e-12", 1),
            ("2k", 2_000_000),
            ("00.0010", 1),
        ] {
            assert_eq!(
                text.parse::<Quantity>().map(Quantity::milli),
                Ok(milli),
                "{text}"
            );
        }
        for (text, units) in [
            ("64M", 64_000_000),
            ("64Mi", 64 << 20),
            ("1.5Gi", 3 << 29),
            ("1K", 1_000),
            ("1Ki", 1_024),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ei", 1 << 60),
            ("1e6", 1_000_000),
            ("1m", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(
                text.parse::<Quantity>().map(Quantity::units),
                Ok(units),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_amount() {
        for (text, error) in [
            ("", QuantityError::Form),
            ("M", QuantityError::Form),
            (".", QuantityError::Form),
            ("1.2.3", QuantityError::Form),
            ("1MB", QuantityError::Form),
            ("1 M", QuantityError::Form),
            ("1e", QuantityError::Form),
            ("1e1.5", QuantityError::Form),
            ("one", QuantityError::Form),
            ("-1", QuantityError::Negative),
            ("18446744073709551616", QuantityError::TooLarge),
            ("1e31", QuantityError::TooLarge),
            ("99999999999999999999E", QuantityError::TooLarge),
            (
                "999999999999999999999999999999999999999999",
                QuantityError::TooLarge,
            ),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
        }
    }
}
