//! Time as a transaction knows it.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, UTC. [`Display`](fmt::Display) writes RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since the beginning of 1970.
    pub seconds: i64,
    /// Nanoseconds on top of them.
    pub nanos: i32,
}

impl Timestamp {
    pub(crate) fn from_wire(wire: prost_types::Timestamp) -> Self {
        Self { seconds: wire.seconds, nanos: wire.nanos }
    }

    /// Milliseconds since the beginning of 1970, rounded down.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        let text = OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            // Years that RFC 3339 cannot write.
            None => write!(f, "{}.{:09}s", self.seconds, self.nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339() {
        let time = Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 };
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.12Z");
        assert_eq!(time.millis(), 1_700_000_000_120);
        let far = Timestamp { seconds: i64::MAX, nanos: 1 };
        assert_eq!(far.to_string(), "9223372036854775807.000000001s");
    }
}
