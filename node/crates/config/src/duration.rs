//! Durations as the configuration writes them: Go's text form, such as `2s` or `1m30.5s`.
//!
//! Grammar (Go: `time.ParseDuration`): an optional sign, then `0` alone or one or more decimal numbers
//! each followed by a unit of `ns`, `us` (`µs`), `ms`, `s`, `m`, `h`.

use std::time::Duration;

/// A text that is not a duration this configuration can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {text:?} as a duration such as 2s or 500ms: {reason}")]
pub struct DurationError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Longest span Go can express, in nanoseconds (about 292 years).
const MAX_NANOS: u128 = i64::MAX as u128;

/// Reads a duration.
///
/// # Errors
/// Fails on text that is not a duration, is negative, or is beyond about 292 years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let fail = |reason| DurationError { text: text.chars().take(64).collect(), reason };
    if text.starts_with('-') {
        return Err(fail("it is negative"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(fail("it is empty"));
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, tail) = component(rest).map_err(fail)?;
        total += nanos;
        if total > MAX_NANOS {
            return Err(fail("it is too long"));
        }
        rest = tail;
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| fail("it is too long"))?;
    let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| fail("it is too long"))?;
    Ok(Duration::new(seconds, nanos))
}

/// One number with its unit at the start of `text`: nanoseconds, and what follows.
fn component(text: &str) -> Result<(u128, &str), &'static str> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err("a number is missing");
    }
    let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let unit = nanos_of(unit)?;
    if whole.len() > 20 {
        return Err("it is too long");
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| "bad number")? };
    let mut nanos = whole.checked_mul(unit).ok_or("it is too long")?;
    // Digits past the 18th are below a nanosecond for every unit.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    if !fraction.is_empty() {
        let parts: u128 = fraction.parse().map_err(|_| "bad number")?;
        let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
        nanos += parts * unit / scale;
    }
    Ok((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanos_of(unit: &str) -> Result<u128, &'static str> {
    Ok(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err("a unit is missing"),
        _ => return Err("its unit is unknown"),
    })
}

/// Writes a duration the way Go prints it, so that it reads the same in Fabric's tools:
/// `2s`, `500ms`, `1m30s`, `1h0m0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    match nanos {
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return decimal(nanos, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => return decimal(nanos, 1_000_000, "ms"),
        _ => {}
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000, "s");
    match minutes {
        0 => seconds,
        1..60 => format!("{minutes}m{seconds}"),
        _ => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
    }
}

fn decimal(nanos: u128, unit: u128, name: &str) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return format!("{whole}{name}");
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}{name}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanos: u64) {
        assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }

    #[test]
    fn reads_what_go_reads() {
        check("2s", 2_000_000_000);
        check("500ms", 500_000_000);
        check("1h15m30.918s", 4_530_918_000_000);
        check("3m0s", 180_000_000_000);
        check(".5s", 500_000_000);
        check("1.s", 1_000_000_000);
        check("+5us", 5_000);
        check("1\u{b5}s1ns", 1_001);
        check("0", 0);
        check("0.3333333333333333333h", 1_199_999_999_999);
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "2", "s", "-1s", "2 s", "1d", ".s", "1s2", "9999999999999999999999h", "1..s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (text, nanos) in [
            ("0s", 0),
            ("7ns", 7),
            ("1.5\u{b5}s", 1_500),
            ("200ms", 200_000_000),
            ("2s", 2_000_000_000),
            ("1m0.05s", 60_050_000_000),
            ("1h0m0s", 3_600_000_000_000),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_undoes_writing(nanos in 0..=i64::MAX.cast_unsigned()) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
