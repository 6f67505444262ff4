//! Encodings: golden bytes, round trips, and that no input makes decoding panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use proptest::prelude::*;
use weft_consensus::{Change, Entry, EntryError, EntryKind, Member, Membership};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn membership() -> Membership {
    let member = |id, weight, key: &str| Member { id, weight, consenter: bytes(key) };
    Membership::new(vec![member(3, 1, "c"), member(1, 2, "a")], 5).unwrap()
}

#[test]
fn golden() {
    fn check(entry: &Entry, expected: &[u8]) {
        assert_eq!(entry.encode(), expected);
        assert_eq!(Entry::decode(Bytes::copy_from_slice(expected)).unwrap(), *entry);
    }
    // Version, kind, count, then each envelope behind its length.
    check(&Entry::normal(vec![bytes("ab"), bytes("c")]), b"\x01\x00\x02\x02ab\x01c");
    check(&Entry::config(bytes("x"), Change::None), b"\x01\x01\x00\x01\x01x");
    // Change 1: version, next id, count, then id, weight and consenter of each.
    let change = Change::To(membership());
    check(
        &Entry::config(bytes("x"), change),
        b"\x01\x01\x01\x01\x05\x02\x03\x01\x01c\x01\x02\x01a\x01\x01x",
    );
}

#[test]
fn refused() {
    fn check(input: &[u8], expected: &str) {
        let error = Entry::decode(Bytes::copy_from_slice(input)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    check(b"", "it does not decode: it ends inside the version");
    check(b"\x02", "its version 2 is unknown");
    check(b"\x01\x07", "its kind 7 is unknown");
    check(b"\x01\x00\x00", "it has no envelope");
    check(b"\x01\x00\x01\x00", "its envelope 0 is empty");
    check(b"\x01\x00\x01\x05abc", "it does not decode: it ends inside an envelope");
    check(b"\x01\x00\x01\x01ab", "it does not decode: 1 bytes are left over");
    check(b"\x01\x00\x81\x00\x01a", "it does not decode: the count is not a canonical number");
    check(b"\x01\x01\x00\x02\x01a\x01b", "it is a config entry with 2 envelopes");
    // A count beyond all bounds reserves nothing.
    check(
        b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "it does not decode: it ends inside an envelope",
    );
    let twice = b"\x01\x01\x01\x01\x05\x02\x03\x01\x01c\x03\x02\x01a\x01\x01x";
    check(
        twice,
        "its membership change is malformed: failed to form a membership: id 3 occurs twice",
    );
    assert_eq!(Entry::normal(vec![]).check(), Err(EntryError::NoEnvelope));
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let envelope = prop::collection::vec(any::<u8>(), 1..200).prop_map(Bytes::from);
    let kind = prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::Config { change: Change::None }),
        Just(EntryKind::Config { change: Change::To(membership()) }),
    ];
    (kind, prop::collection::vec(envelope, 1..20)).prop_map(|(kind, mut envelopes)| {
        if kind != EntryKind::Normal {
            envelopes.truncate(1);
        }
        Entry { kind, envelopes }
    })
}

proptest! {
    #[test]
    fn entries_round_trip(entry in any_entry()) {
        let encoded = Bytes::from(entry.encode());
        prop_assert_eq!(Entry::decode(encoded), Ok(entry));
    }

    /// One entry has one encoding: whatever decodes encodes to the same bytes.
    #[test]
    fn encodings_are_canonical(entry in any_entry(), at in any::<prop::sample::Index>(), to: u8) {
        let mut encoded = entry.encode();
        let at = at.index(encoded.len());
        encoded[at] = to;
        if let Ok(other) = Entry::decode(Bytes::from(encoded.clone())) {
            prop_assert_eq!(other.encode(), encoded);
        }
    }

    #[test]
    fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut noise = noise;
        let _ = Entry::decode(Bytes::from(noise.clone()));
        if let Some(first) = noise.first_mut() {
            *first = 1;
        }
        let _ = Entry::decode(Bytes::from(noise));
    }
}
