//! Durations written as text: `500ms`, `30s`, `15m`, `1h`, or a sum such as `1m30s`.
//!
//! Use with `#[serde(with = "weft_settings::duration")]`, and
//! `weft_settings::duration::option` for optional ones. `0s` is zero.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(&str, u128); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read duration {text:?}: {reason} (write it as 500ms, 30s, 15m, 1h or 1m30s)")]
pub struct DurationError {
    /// The text given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a duration from text.
///
/// # Errors
/// When the text is empty, has a number without a unit, an unknown unit, or is too large.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let fail = |reason| DurationError { text: text.to_owned(), reason };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail("it is empty"));
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let number: u64 = number.parse().map_err(|_| fail("a number is missing or too large"))?;
        let (_, scale) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| fail("unknown unit"))?;
        total += u128::from(number) * scale;
        rest = next;
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| fail("it is too large"))?;
    let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| fail("it is too large"))?;
    Ok(Duration::new(seconds, nanos))
}

/// Writes a duration as text that [`parse`] reads back to the same value, in the largest
/// unit that is exact.
pub fn format(value: Duration) -> impl fmt::Display {
    let nanos = value.as_nanos();
    let (name, scale) = UNITS
        .iter()
        .rev()
        .find(|(_, scale)| nanos != 0 && nanos.is_multiple_of(*scale))
        .copied()
        .unwrap_or(("s", 1_000_000_000));
    format!("{}{name}", nanos / scale)
}

/// Serde: writes a duration as text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format(*value))
}

/// Serde: reads a duration from text.
///
/// # Errors
/// See [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for `Option<Duration>`.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Serde: writes a duration as text, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Serde: reads a duration from text, or null.
    ///
    /// # Errors
    /// See [`super::parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text)).transpose().map_err(serde::de::Error::custom)
    }
}
