#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use weft_types::{
    ChannelId, ChannelIdError, MspId, MspIdError, TxFilter, TxId, TxIdError, ValidationCode,
};

#[test]
fn channel_names() {
    for good in ["a", "supply", "a.b-c.9", &"x".repeat(249)] {
        assert_eq!(ChannelId::new(good).unwrap().as_str(), good);
    }
    assert_eq!(ChannelId::new(""), Err(ChannelIdError::Empty));
    assert_eq!(ChannelId::new(&"x".repeat(250)), Err(ChannelIdError::TooLong { length: 250 }));
    for bad in ["A", "9a", ".", "..", "-a", "a_b", "a/b", "aB", "a b", "ä", "a\0", "a\n"] {
        let error = ChannelId::new(bad).unwrap_err();
        assert_eq!(error, ChannelIdError::Characters { name: bad.to_owned() });
    }
}

#[test]
fn msp_names() {
    for good in ["Org1MSP", "org-1.example_com", "1", "...", &"x".repeat(249)] {
        assert_eq!(MspId::new(good).unwrap().as_str(), good);
    }
    assert_eq!(MspId::new(""), Err(MspIdError::Empty));
    assert_eq!(MspId::new(&"x".repeat(250)), Err(MspIdError::TooLong { length: 250 }));
    for bad in [".", "..", "a/b", "a b", "ä", "a\0", "a\\b"] {
        let error = MspId::new(bad).unwrap_err();
        assert_eq!(error, MspIdError::Characters { name: bad.to_owned() });
    }
}

#[test]
fn a_transaction_id_is_the_hash_of_nonce_and_creator() {
    // python3: hashlib.sha256(b"nonce" + b"creator").hexdigest()
    let expected = "709184f9d24f6ade8fcd4d6521a6eef295fef6c2e67216c58b68ac15e8946492";
    let id = TxId::compute(b"nonce", b"creator");
    assert_eq!(id.to_string(), expected);
    assert_eq!(TxId::check(expected, b"nonce", b"creator"), Ok(id));
    let mismatch = |text: &str| {
        let error = TxId::check(text, b"nonce", b"creator").unwrap_err();
        assert_eq!(error, TxIdError::Mismatch { found: text.to_owned(), expected: id });
    };
    mismatch("");
    mismatch(&expected.to_uppercase());
    mismatch(&expected[..62]);
    mismatch(&expected.replace('7', "8"));
}

#[test]
fn hostile_transaction_ids_do_not_fill_the_log() {
    let error = TxId::from_hex(&"é".repeat(1_000_000)).unwrap_err();
    assert!(error.to_string().len() < 500);
}

#[test]
fn a_filter_starts_not_validated() {
    let mut filter = TxFilter::new(2);
    assert_eq!(filter.as_bytes(), [254, 254]);
    filter.set(1, ValidationCode::Valid).unwrap();
    assert!(filter.is_valid(1) && !filter.is_valid(0) && !filter.is_valid(2));
    assert_eq!(filter.get(2), None);
    let error = filter.set(2, ValidationCode::Valid).unwrap_err();
    assert_eq!((error.index, error.length), (2, 2));
    assert_eq!(filter.as_bytes(), [254, 0]);
}

#[test]
fn a_byte_that_is_no_code_is_not_valid() {
    let filter = TxFilter::from_bytes(&[200, 255, 11]);
    let codes: Vec<_> = filter.iter().collect();
    let other = ValidationCode::InvalidOtherReason;
    assert_eq!(codes, [other, other, ValidationCode::MvccReadConflict]);
}

proptest! {
    #[test]
    fn transaction_ids_survive_their_text(bytes: [u8; 32]) {
        let id = TxId::from_bytes(bytes);
        prop_assert_eq!(TxId::from_hex(&id.to_string()), Ok(id));
    }

    #[test]
    fn filters_survive_their_bytes(bytes: Vec<u8>) {
        let filter = TxFilter::from_bytes(&bytes);
        prop_assert_eq!(filter.len(), bytes.len());
        prop_assert_eq!(filter.iter().count(), bytes.len());
        prop_assert_eq!(&filter.into_bytes()[..], &bytes[..]);
    }

    #[test]
    fn texts_never_panic(text: String) {
        let _ = ChannelId::new(&text);
        let _ = MspId::new(&text);
        prop_assert_eq!(TxId::from_hex(&text).is_ok_and(|id| id.to_string() != text), false);
    }
}
