//! Bytes on the wire, worked out by hand from field numbers and types.
//!
//! A field is a tag (number × 8 + 0 for numbers, + 2 for anything with a length), then the
//! number or the length and the content. Fields follow in the order of their numbers.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use weft_protos::common::{
    Capabilities, Capability, ChannelHeader, ConfigGroup, ConfigValue, Envelope, Header,
    HeaderType, LastConfig, MspPrincipal, OrdererBlockMetadata, Payload, SignaturePolicy,
    SignaturePolicyEnvelope, signature_policy,
};
use weft_protos::ext::decode;
use weft_protos::gateway::EndorseRequest;
use weft_protos::kvrwset::{KvRead, KvWrite, KvrwSet, Version};
use weft_protos::peer::{ChaincodeMessage, SignedProposal, chaincode_message};

/// Checks both directions.
fn check<M: Message + Default + PartialEq + Debug>(message: M, expect: &[&[u8]]) {
    let expect = expect.concat();
    assert_eq!(message.encode_to_vec(), expect, "encoding {message:?}");
    assert_eq!(decode::<M>("message", expect).as_ref(), Ok(&message));
}

#[test]
fn envelope() {
    check(
        Envelope { payload: Bytes::from_static(b"pay"), signature: Bytes::from_static(b"sg") },
        &[b"\x0a\x03pay", b"\x12\x02sg"],
    );
}

#[test]
fn payload_with_headers() {
    check(
        Payload {
            header: Some(Header {
                channel_header: Bytes::from_static(b"ch"),
                signature_header: Bytes::from_static(b"s"),
            }),
            data: Bytes::from_static(b"d"),
        },
        &[b"\x0a\x07", b"\x0a\x02ch", b"\x12\x01s", b"\x12\x01d"],
    );
}

#[test]
fn channel_header() {
    check(
        ChannelHeader {
            r#type: HeaderType::EndorserTransaction.into(),
            version: 1,
            timestamp: Some(Timestamp { seconds: 300, nanos: 5 }),
            channel_id: "trade".into(),
            tx_id: "ab".into(),
            epoch: 0,
            extension: Bytes::from_static(b"x"),
            tls_cert_hash: Bytes::from_static(b"h"),
        },
        &[
            b"\x08\x03",
            b"\x10\x01",
            b"\x1a\x05\x08\xac\x02\x10\x05",
            b"\x22\x05trade",
            b"\x2a\x02ab",
            // A zero epoch is left out.
            b"\x3a\x01x",
            b"\x42\x01h",
        ],
    );
}

#[test]
fn config_group_sorts_its_maps() {
    let value = |version| ConfigValue { version, ..ConfigValue::default() };
    check(
        ConfigGroup {
            version: 7,
            groups: [("Orderer".into(), ConfigGroup { version: 1, ..ConfigGroup::default() })]
                .into(),
            values: [("b".into(), value(2)), ("a".into(), value(1))].into(),
            policies: [].into(),
            mod_policy: "Admins".into(),
        },
        &[
            b"\x08\x07",
            b"\x12\x0d\x0a\x07Orderer\x12\x02\x08\x01",
            b"\x1a\x07\x0a\x01a\x12\x02\x08\x01",
            b"\x1a\x07\x0a\x01b\x12\x02\x08\x02",
            b"\x2a\x06Admins",
        ],
    );
}

#[test]
fn map_entries_with_a_default_value() {
    let capabilities = Capabilities { capabilities: [("V2_0".into(), Capability {})].into() };
    check(capabilities.clone(), &[b"\x0a\x06\x0a\x04V2_0"]);

    let as_go_writes_it = b"\x0a\x08\x0a\x04V2_0\x12\x00".as_slice();
    assert_eq!(decode("capabilities", as_go_writes_it), Ok(capabilities));
}

#[test]
fn signature_policy() {
    let signed_by =
        |index| SignaturePolicy { r#type: Some(signature_policy::Type::SignedBy(index)) };
    let n_out_of = signature_policy::NOutOf { n: 1, rules: vec![signed_by(0), signed_by(1)] };
    check(
        SignaturePolicyEnvelope {
            version: 0,
            rule: Some(SignaturePolicy { r#type: Some(signature_policy::Type::NOutOf(n_out_of)) }),
            identities: vec![
                MspPrincipal { principal_classification: 0, principal: Bytes::from_static(b"r") },
                MspPrincipal { principal_classification: 2, principal: Bytes::from_static(b"id") },
            ],
        },
        &[
            b"\x12\x0c\x12\x0a",
            b"\x08\x01",
            // The choice itself is written, even with the value 0.
            b"\x12\x02\x08\x00",
            b"\x12\x02\x08\x01",
            b"\x1a\x03\x12\x01r",
            b"\x1a\x06\x08\x02\x12\x02id",
        ],
    );
}

#[test]
fn orderer_block_metadata() {
    check(
        OrdererBlockMetadata {
            last_config: Some(LastConfig { index: 0 }),
            consenter_metadata: Bytes::from_static(b"\x08\x01"),
        },
        // An empty message is still present.
        &[b"\x0a\x00", b"\x12\x02\x08\x01"],
    );
}

#[test]
fn chaincode_message() {
    check(
        ChaincodeMessage {
            r#type: chaincode_message::Type::GetStateMultiple.into(),
            timestamp: None,
            payload: Bytes::from_static(b"p"),
            txid: "t".into(),
            proposal: Some(SignedProposal {
                proposal_bytes: Bytes::from_static(b"b"),
                signature: Bytes::new(),
            }),
            chaincode_event: None,
            channel_id: "c".into(),
        },
        &[b"\x08\x19", b"\x1a\x01p", b"\x22\x01t", b"\x2a\x03\x0a\x01b", b"\x3a\x01c"],
    );
}

#[test]
fn read_write_set() {
    check(
        KvrwSet {
            reads: vec![
                KvRead { key: "k".into(), version: Some(Version { block_num: 200, tx_num: 3 }) },
                KvRead { key: "new".into(), version: None },
            ],
            range_queries_info: vec![],
            writes: vec![
                KvWrite { key: "k".into(), is_delete: false, value: Bytes::from_static(b"v") },
                KvWrite { key: "d".into(), is_delete: true, value: Bytes::new() },
            ],
            metadata_writes: vec![],
        },
        &[
            b"\x0a\x0a\x0a\x01k\x12\x05\x08\xc8\x01\x10\x03",
            b"\x0a\x05\x0a\x03new",
            b"\x1a\x06\x0a\x01k\x1a\x01v",
            b"\x1a\x05\x0a\x01d\x10\x01",
        ],
    );
}

#[test]
fn endorse_request() {
    check(
        EndorseRequest {
            transaction_id: "t".into(),
            channel_id: "c".into(),
            proposed_transaction: Some(SignedProposal {
                proposal_bytes: Bytes::from_static(b"b"),
                signature: Bytes::from_static(b"s"),
            }),
            endorsing_organizations: vec!["Org1".into(), "Org2".into()],
        },
        &[
            b"\x0a\x01t",
            b"\x12\x01c",
            b"\x1a\x06\x0a\x01b\x12\x01s",
            b"\x22\x04Org1",
            b"\x22\x04Org2",
        ],
    );
}

#[test]
fn decoding_shares_the_buffer() {
    let bytes = Bytes::from_static(b"\x0a\x03pay\x12\x02sg");
    let envelope: Envelope = decode("envelope", bytes.clone()).unwrap();
    assert_eq!(envelope.payload.as_ptr(), bytes[2..].as_ptr());
}

#[test]
fn a_decode_error_names_the_message() {
    let error = decode::<Envelope>("envelope", b"\x0a\x05cut".as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "failed to decode envelope");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = (0..200).fold(ConfigGroup::default(), |inner, _| ConfigGroup {
        groups: [("g".into(), inner)].into(),
        ..ConfigGroup::default()
    });
    decode::<ConfigGroup>("config group", deep.encode_to_vec()).unwrap_err();
}

#[test]
fn messages_with_lists_and_maps_are_hashable() {
    fn hashable<T: Eq + std::hash::Hash>() {}
    hashable::<ConfigGroup>();
    hashable::<SignaturePolicyEnvelope>();
    hashable::<KvrwSet>();
}
