//! Fixed times.

use weft_crypto::{Timestamp, Validity};

/// Start of every certificate's validity unless a test says otherwise: 2020-01-01.
pub const NOT_BEFORE: Timestamp = Timestamp::from_seconds(1_577_836_800);
/// End of every certificate's validity unless a test says otherwise: 2049-01-01.
pub const NOT_AFTER: Timestamp = Timestamp::from_seconds(2_493_072_000);
/// The present of tests without a clock: 2025-01-01.
pub const NOW: Timestamp = Timestamp::from_seconds(1_735_689_600);

/// From [`NOT_BEFORE`] to [`NOT_AFTER`].
pub const ALWAYS: Validity = Validity { not_before: NOT_BEFORE, not_after: NOT_AFTER };
/// A validity that ended a day before [`NOW`].
pub const EXPIRED: Validity =
    Validity { not_before: NOT_BEFORE, not_after: Timestamp::from_seconds(1_735_603_200) };
/// A validity that begins a day after [`NOW`].
pub const FUTURE: Validity =
    Validity { not_before: Timestamp::from_seconds(1_735_776_000), not_after: NOT_AFTER };
