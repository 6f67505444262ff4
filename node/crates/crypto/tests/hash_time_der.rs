#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use proptest::prelude::*;
use weft_crypto::{Hasher, Timestamp, TimestampError, der, sha256, sha256_parts};

#[test]
fn sha256_of_a_known_text() {
    // FIPS 180-2, appendix B.1; also python3 -c 'hashlib.sha256(b"abc")'.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex::encode(sha256(b"abc")), expected);
    assert_eq!(hex::encode(sha256_parts(["a", "", "bc"])), expected);
}

#[test]
fn integers_are_positive_and_shortest() {
    let check = |value: u64, expected: &str| assert_eq!(hex::encode(der::integer(value)), expected);
    check(0, "020100");
    check(1, "020101");
    check(127, "02017f");
    check(128, "02020080");
    check(256, "02020100");
    check(1 << 63, "0209008000000000000000");
    check(u64::MAX, "020900ffffffffffffffff");
}

#[test]
fn lengths_are_shortest() {
    let head =
        |length: usize| hex::encode(&der::octet_string(&vec![0; length])[..4.min(length + 2)]);
    assert_eq!(head(0), "0400");
    assert_eq!(head(127), "047f0000");
    assert_eq!(head(128), "04818000");
    assert_eq!(head(255), "0481ff00");
    assert_eq!(head(256), "04820100");
    assert_eq!(head(65_535), "0482ffff");
}

#[test]
fn certificate_times_change_their_form_in_2050() {
    let text = |seconds| {
        let der = der::time(Timestamp::from_seconds(seconds)).unwrap();
        (der[0], String::from_utf8(der[2..].to_vec()).unwrap())
    };
    // date -u -d @…: 0, 2049-12-31T23:59:59, 2050-01-01T00:00:00, 1949-12-31T23:59:59.
    assert_eq!(text(0), (0x17, "700101000000Z".to_owned()));
    assert_eq!(text(2_524_607_999), (0x17, "491231235959Z".to_owned()));
    assert_eq!(text(2_524_608_000), (0x18, "20500101000000Z".to_owned()));
    assert_eq!(text(-631_152_001), (0x18, "19491231235959Z".to_owned()));
}

#[test]
fn times_without_a_calendar_date_are_refused() {
    for seconds in [i64::MIN, -62_167_219_201, 253_402_300_800, i64::MAX] {
        let at = Timestamp::from_seconds(seconds);
        assert_eq!(der::time(at), Err(TimestampError::Range { seconds }));
        assert_eq!(at.to_string(), format!("{seconds}.000000000s"));
    }
}

#[test]
fn timestamps_show_as_rfc_3339() {
    let at = Timestamp::new(1_700_000_000, 50).unwrap();
    assert_eq!(at.to_string(), "2023-11-14T22:13:20.000000050Z");
    assert_eq!(Timestamp::from_seconds(-1).to_string(), "1969-12-31T23:59:59Z");
}

#[test]
fn timestamps_of_messages_are_checked() {
    let message = |nanos| prost_types::Timestamp { seconds: 7, nanos };
    assert_eq!(Timestamp::try_from(message(5)), Timestamp::new(7, 5));
    for nanos in [-1, 1_000_000_000, i32::MAX, i32::MIN] {
        let error = Timestamp::try_from(message(nanos)).unwrap_err();
        assert_eq!(error, TimestampError::Nanos { nanos: i64::from(nanos) });
    }
}

fn any_timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

proptest! {
    #[test]
    fn hashing_in_pieces_is_hashing_the_whole(parts: Vec<Vec<u8>>) {
        let mut hasher = Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        prop_assert_eq!(hasher.finish(), sha256(&parts.concat()));
        prop_assert_eq!(sha256_parts(&parts), sha256(&parts.concat()));
    }

    #[test]
    fn timestamps_survive_messages(at in any_timestamp()) {
        prop_assert_eq!(Timestamp::try_from(prost_types::Timestamp::from(at)), Ok(at));
    }

    #[test]
    fn adding_and_subtracting_cancel(
        seconds in -1_000_000_000_000..1_000_000_000_000_i64,
        nanos in 0..1_000_000_000_u32,
        by in (0..1_000_000_000_000_u64, 0..1_000_000_000_u32),
    ) {
        let at = Timestamp::new(seconds, nanos).unwrap();
        let by = Duration::new(by.0, by.1);
        let later = at.saturating_add(by);
        prop_assert_eq!(later.since(at), Some(by));
        prop_assert_eq!(later.saturating_sub(by), at);
        prop_assert_eq!(at.since(later).is_some(), by.is_zero());
    }

    #[test]
    fn arithmetic_never_wraps(at in any_timestamp(), seconds: u64) {
        let by = Duration::from_secs(seconds);
        prop_assert!(at.saturating_add(by) >= at);
        prop_assert!(at.saturating_sub(by) <= at);
    }
}
