use bytes::Bytes;

use super::*;
use crate::discovery::{Query, Request};
use crate::ext::{DecodeCause, decode_bounded};
use crate::peer::{ChaincodeInput, ChaincodeInvocationSpec, ChaincodeSpec};

/// `count` empty elements of field `number`.
fn empty(number: u8, count: usize) -> Vec<u8> {
    [(number << 3) | 2, 0].repeat(count)
}

fn arguments(count: usize, length: usize) -> Vec<u8> {
    let args = vec![Bytes::from(vec![b'x'; length]); count];
    let input = ChaincodeInput { args, ..Default::default() };
    let spec = ChaincodeSpec { input: Some(input), ..Default::default() };
    ChaincodeInvocationSpec { chaincode_spec: Some(spec) }.encode_to_vec()
}

#[test]
fn empty_messages_by_the_million_are_refused_before_they_are_decoded() {
    let flood = empty(2, 4 * 1024 * 1024);
    assert_eq!(Request::decode(&flood[..2_000]).unwrap().queries.len(), 1_000);
    let refused = check::<Request>(&flood).unwrap_err();
    assert_eq!((refused.message.as_str(), refused.bytes), ("discovery.Request", flood.len()));
    assert!(refused.limit < 2 * flood.len());
    let error = decode_bounded::<Request>("request", flood).unwrap_err();
    assert!(matches!(error.source, DecodeCause::TooLarge(_)), "{error:?}");
}

#[test]
fn the_lists_of_inner_messages_count_as_well() {
    assert_eq!(check::<ChaincodeInvocationSpec>(&arguments(1_000, 0)), Ok(()));
    assert!(check::<ChaincodeInvocationSpec>(&arguments(100_000, 0)).is_err());
    // An empty group before them, or fields that no message has, hide nothing.
    let mut hidden = vec![0x7b, 0x7c];
    hidden.extend(arguments(100_000, 0));
    assert!(check::<ChaincodeInvocationSpec>(&hidden).is_err());
}

#[test]
fn what_clients_send_passes() {
    assert_eq!(check::<ChaincodeInvocationSpec>(&arguments(100_000, 6)), Ok(()));
    assert_eq!(check::<ChaincodeInvocationSpec>(&arguments(4_000, 2)), Ok(()));
    assert_eq!(check::<ChaincodeInvocationSpec>(&arguments(1, 50 * 1024 * 1024)), Ok(()));
}

#[test]
fn a_message_takes_no_more_than_was_worked_out() {
    let shape = shapes().find("discovery", "Query").unwrap();
    assert!(shape.size >= size_of::<Query>(), "{} < {}", shape.size, size_of::<Query>());
    let shape = shapes().find("protos", "ChaincodeSpec").unwrap();
    assert!(shape.size >= size_of::<ChaincodeSpec>());
}

#[test]
fn bytes_that_are_no_encoding_are_for_the_decoder_to_refuse() {
    for bytes in [&[0x0a, 0xff][..], &[0xff; 11], &[0x0c], &[0x0f], &[0x0b, 0x0b]] {
        assert_eq!(check::<Request>(bytes), Ok(()));
    }
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    assert_eq!(check::<crate::common::ConfigUpdate>(&nested), Ok(()));
}
