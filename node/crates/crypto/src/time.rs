//! Points in time, as values that are passed in: no code of the pure crates reads a clock.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A point in time: whole seconds since 1970-01-01T00:00:00Z and nanoseconds after that second.
///
/// The same split as `google.protobuf.Timestamp`. The default is the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// A value that is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The nanoseconds are not within 0..=999_999_999.
    #[error("failed to read a timestamp: {nanos} nanoseconds are not within a second")]
    Nanos {
        /// The refused value.
        nanos: i64,
    },
    /// The time cannot be written as a calendar date (year 0 to 9999).
    #[error("failed to write a timestamp: {seconds} s since 1970 is outside the years 0 to 9999")]
    Range {
        /// Seconds since 1970.
        seconds: i64,
    },
}

impl Timestamp {
    /// The time `seconds` and `nanos` after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`TimestampError::Nanos`] when `nanos` is a second or more.
    pub fn new(seconds: i64, nanos: u32) -> Result<Self, TimestampError> {
        if nanos >= 1_000_000_000 {
            return Err(TimestampError::Nanos { nanos: i64::from(nanos) });
        }
        Ok(Self { seconds, nanos })
    }

    /// A whole number of seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// The time of a system clock reading; times before 1970 become 1970.
    #[must_use]
    pub fn from_system_time(at: std::time::SystemTime) -> Self {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::from_seconds(0).saturating_add(since)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::seconds`], below 10⁹.
    #[must_use]
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS_PER_SECOND + i128::from(self.nanos)
    }

    /// This time moved later by `by`; the last representable time when that is past it.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self::saturating_from_nanos(self.unix_nanos().saturating_add_unsigned(by.as_nanos()))
    }

    /// This time moved earlier by `by`; the first representable time when that is before it.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self::saturating_from_nanos(self.unix_nanos().saturating_sub_unsigned(by.as_nanos()))
    }

    /// How long after `earlier` this time is; `None` when it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let nanos = u128::try_from(self.unix_nanos() - earlier.unix_nanos()).ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or_default()))
    }

    fn saturating_from_nanos(nanos: i128) -> Self {
        let seconds = nanos.div_euclid(NANOS_PER_SECOND);
        let rest = u32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default();
        match i64::try_from(seconds) {
            Ok(seconds) => Self { seconds, nanos: rest },
            Err(_) if nanos < 0 => Self { seconds: i64::MIN, nanos: 0 },
            Err(_) => Self { seconds: i64::MAX, nanos: 999_999_999 },
        }
    }

    /// The UTC calendar date and time, which certificates are written with.
    pub(crate) fn calendar(self) -> Result<OffsetDateTime, TimestampError> {
        let range = |_| TimestampError::Range { seconds: self.seconds };
        let date = OffsetDateTime::from_unix_timestamp(self.seconds).map_err(range)?;
        if date.year() < 0 {
            return Err(TimestampError::Range { seconds: self.seconds });
        }
        Ok(date)
    }
}

/// RFC 3339 in UTC, with nanoseconds when there are any; plain seconds outside the years 0 to 9999.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = self.calendar() else {
            return write!(f, "{}.{:09}s", self.seconds, self.nanos);
        };
        let month = u8::from(at.month());
        write!(f, "{:04}-{month:02}-{:02}T", at.year(), at.day())?;
        write!(f, "{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())?;
        if self.nanos != 0 {
            write!(f, ".{:09}", self.nanos)?;
        }
        f.write_str("Z")
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(at: Timestamp) -> Self {
        Self { seconds: at.seconds, nanos: i32::try_from(at.nanos).unwrap_or_default() }
    }
}

impl TryFrom<prost_types::Timestamp> for Timestamp {
    type Error = TimestampError;

    fn try_from(at: prost_types::Timestamp) -> Result<Self, TimestampError> {
        let nanos = u32::try_from(at.nanos)
            .map_err(|_| TimestampError::Nanos { nanos: i64::from(at.nanos) })?;
        Self::new(at.seconds, nanos)
    }
}
