#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::{NONCE, TestSigner, channel, now};
use proptest::prelude::*;
use prost::Message;
use weft_protos::common::{
    Block, BlockHeader, BlockMetadataIndex, Envelope, HeaderType, IdentifierHeader, Metadata,
    MetadataSignature,
};
use weft_types::{
    TxFilter, ValidationCode,
    block::{
        self, BlockError,
        metadata::{self, BlockSigner, MetadataError, OrdererMetadata},
    },
    envelope::EnvelopeSpec,
};

fn header(number: u64) -> BlockHeader {
    BlockHeader {
        number,
        previous_hash: Bytes::from_static(&[1; 32]),
        data_hash: Bytes::from_static(&[2; 32]),
    }
}

fn envelope(payload: &'static [u8], signature: &'static [u8]) -> Bytes {
    let envelope =
        Envelope { payload: Bytes::from_static(payload), signature: Bytes::from_static(signature) };
    envelope.encode_to_vec().into()
}

fn config_transaction() -> Bytes {
    let spec = EnvelopeSpec {
        header_type: HeaderType::Config,
        channel_id: Some(channel()),
        data: Bytes::from_static(b"config"),
        timestamp: now(),
        nonce: NONCE,
        tls_cert_hash: Bytes::new(),
    };
    spec.unsigned().encode_to_vec().into()
}

/// Expected values from python3: the DER put together by hand, `hashlib.sha256(der).hexdigest()`.
#[test]
fn header_hashes() {
    let check = |number, integer: &str, length, expected: &str| {
        let der = block::header_bytes(&header(number));
        assert_eq!(der.len(), length);
        assert_eq!(hex::encode(&der[2..2 + integer.len() / 2]), integer);
        assert_eq!(hex::encode(block::header_hash(&header(number))), expected);
    };
    check(0, "020100", 73, "48ee5465372625f0dd4423b11bea48e2046bc641e87cb725acd138f74de45c12");
    check(127, "02017f", 73, "d65f891abeeabe724b6892bf38cb1330454555f523b3eb88f5c7041030627fd0");
    check(128, "02020080", 74, "c0ffbca2c19ee62fc3e76d183167f01a4de3f8f27c83daf84ee54d30774edb24");
    check(
        1 << 63,
        "0209008000000000000000",
        81,
        "9c1512b44c441ea1b6e260a0cfa50ee54d94faee09070fef791201edc17bf06c",
    );
    check(
        u64::MAX,
        "020900ffffffffffffffff",
        81,
        "04ef0f8d995f7f46582885653b0c2a342bda707322a5e29aed1a267dea42711d",
    );
}

#[test]
fn the_genesis_header_has_an_empty_previous_hash() {
    let genesis = BlockHeader { previous_hash: Bytes::new(), ..header(0) };
    let der = hex::encode(block::header_bytes(&genesis));
    assert_eq!(der, format!("30270201000400{}{}", "0420", "02".repeat(32)));
    let expected = "0a3e038c1e47233245443e7b5d6f0b9a22bbf19120874368460d2145368442e4";
    assert_eq!(hex::encode(block::header_hash(&genesis)), expected);
}

#[test]
fn the_data_hash_covers_the_concatenation() {
    // python3: hashlib.sha256(b"one" + b"two").hexdigest()
    let expected = "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1";
    let data = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    assert_eq!(hex::encode(block::data_hash(&data)), expected);
}

#[test]
fn commit_hashes() {
    // python3: hashlib.sha256(b"\x02" + bytes([0, 11]) + b"updates" + b"previous").hexdigest()
    let filter = TxFilter::from_codes(&[ValidationCode::Valid, ValidationCode::MvccReadConflict]);
    let hash = block::commit_hash(&filter, b"updates", b"previous");
    let expected = "86fd0931943e2a999cdd3afd90bf16e923feb4fdc9740906d5fadca76b2a8544";
    assert_eq!(hex::encode(hash), expected);
    // A length of two octets: hashlib.sha256(b"\xac\x02" + bytes(300)).hexdigest()
    let hash = block::commit_hash(&TxFilter::from_bytes(&[0; 300]), b"", b"");
    let expected = "797cdd8a6b96fc7b03fd36aab5405fe41cb29d80ed0756572e38de1b0cd94bbb";
    assert_eq!(hex::encode(hash), expected);
}

#[test]
fn a_new_block_is_sound_and_linked() {
    let first = block::new(0, Bytes::new(), vec![config_transaction()]);
    let hash = Bytes::copy_from_slice(&block::header_hash(first.header.as_ref().unwrap()));
    let second = block::new(1, hash, vec![envelope(b"a", b"s"), envelope(b"b", b"s")]);
    assert_eq!(block::check(&first), Ok(()));
    assert_eq!(block::check(&second), Ok(()));
    let (first, second) = (first.header.unwrap(), second.header.unwrap());
    assert_eq!(block::check_link(&first, &second), Ok(()));
    let gap = BlockHeader { number: 2, ..second.clone() };
    assert_eq!(block::check_link(&first, &gap), Err(BlockError::Number { number: 2, expected: 1 }));
    let other = BlockHeader { data_hash: Bytes::from_static(b"x"), ..first };
    assert_eq!(block::check_link(&other, &second), Err(BlockError::PreviousHash { number: 1 }));
    let last = header(u64::MAX);
    assert!(block::check_link(&last, &header(0)).is_err());
    assert!(block::check_link(&last, &last).is_err());
}

/// CVE-2023-46132: one data hash must not cover two ways to cut the data.
#[test]
fn a_block_cut_elsewhere_is_refused_though_its_hash_is_right() {
    let (a, b) = (envelope(b"first", b"s"), envelope(b"second", b"s"));
    let whole = Bytes::from([a.clone(), b.clone()].concat());
    assert_eq!(
        block::data_hash(&[a.clone(), b.clone()]),
        block::data_hash(std::slice::from_ref(&whole))
    );
    let honest = block::new(5, Bytes::new(), vec![a.clone(), b]);
    assert_eq!(block::check(&honest), Ok(()));
    for cut in 1..whole.len() {
        if cut == a.len() {
            continue;
        }
        let mut forged = honest.clone();
        forged.data.as_mut().unwrap().data = vec![whole.slice(..cut), whole.slice(cut..)];
        let error = block::check(&forged).unwrap_err();
        assert!(
            matches!(error, BlockError::Transaction { number: 5, .. }),
            "cut at {cut}: {error}"
        );
    }
    let mut joined = honest;
    joined.data.as_mut().unwrap().data = vec![whole];
    assert!(matches!(block::check(&joined), Err(BlockError::Transaction { index: 0, .. })));
}

#[test]
fn transactions_must_be_what_their_envelopes_encode_to() {
    let refused = |raw: Vec<u8>, expected: &str| {
        let data = [envelope(b"a", b"s"), Bytes::from(raw)];
        let error = block::check_transactions(3, &data).unwrap_err();
        let BlockError::Transaction { number: 3, index: 1, reason } = error else {
            panic!("{error}");
        };
        assert_eq!(reason, expected);
    };
    let differs = "is not the bytes that its envelope encodes to";
    refused(vec![0xff], "is not an encoded envelope");
    refused(vec![0x12, 1, b's'], "has no payload");
    refused(vec![0x0a, 1, b'a'], "has no signature");
    refused(vec![], "has no payload");
    // An unknown field, fields in the other order, a length that is not the shortest.
    refused(vec![0x0a, 1, b'a', 0x12, 1, b's', 0x18, 1], differs);
    refused(vec![0x12, 1, b's', 0x0a, 1, b'a'], differs);
    refused(vec![0x0a, 0x81, 0, b'a', 0x12, 1, b's'], differs);
    refused(vec![0x0a, 1, b'x', 0x0a, 1, b'a', 0x12, 1, b's'], differs);
    assert_eq!(block::check_transactions(3, &[]), Err(BlockError::Empty { number: 3 }));
}

#[test]
fn only_a_lone_configuration_is_exempt() {
    assert!(block::is_config(&[config_transaction()]));
    assert_eq!(block::check_transactions(0, &[config_transaction()]), Ok(()));
    let two = [config_transaction(), config_transaction()];
    assert!(!block::is_config(&two));
    assert!(block::check_transactions(0, &two).is_err());
    assert!(!block::is_config(&[envelope(b"a", b"s")]));
}

#[test]
fn blocks_without_their_parts_are_errors() {
    let missing = |block: &Block, part| {
        assert_eq!(block::check(block), Err(BlockError::Missing { part }));
    };
    missing(&Block::default(), "header");
    missing(&Block { header: Some(header(1)), ..Block::default() }, "data");
    let mut changed = block::new(1, Bytes::new(), vec![envelope(b"a", b"s")]);
    changed.data.as_mut().unwrap().data[0] = envelope(b"b", b"s");
    assert_eq!(block::check(&changed), Err(BlockError::DataHash { number: 1 }));
}

#[test]
fn an_orderers_signature_covers_value_signer_and_header() {
    let signer = TestSigner::new("orderer");
    let said = OrdererMetadata::wrapping(3, Bytes::from_static(b"raft index"));
    let mut block = block::new(4, Bytes::new(), vec![envelope(b"a", b"s")]);
    metadata::sign(&mut block, &said, &signer, NONCE).unwrap();
    let read = metadata::signatures(&block).unwrap();
    assert_eq!(read.metadata, said);
    assert_eq!(read.metadata.wrapped().unwrap(), "raft index");
    assert_eq!(metadata::last_config(&block).unwrap(), 3);
    let [signature] = &read.signatures[..] else { panic!("one signature") };
    assert!(signer.verifies(&signature.signed, &signature.signature));
    let BlockSigner::Creator(header) = &signature.signer else { panic!("a creator") };
    assert_eq!((&header.creator[..], &header.nonce[..]), (&b"orderer"[..], &NONCE[..]));
    // value ‖ signature header ‖ header DER, each encoded here by hand.
    let value = [&b"\x0a\x02\x08\x03\x12\x0c\x0a\x0araft index"[..]].concat();
    let signer_header = [&b"\x0a\x07orderer\x12\x18"[..], &NONCE].concat();
    let der = block::header_bytes(block.header.as_ref().unwrap());
    assert_eq!(signature.signed, [value, signer_header, der].concat());
    let legacy = metadata::get(&block, BlockMetadataIndex::LastConfig).unwrap();
    assert_eq!(&legacy.value[..], b"\x08\x03");
}

#[test]
fn a_bft_signature_covers_the_identifier_header() {
    let mut block = block::new(4, Bytes::new(), vec![envelope(b"a", b"s")]);
    let said = OrdererMetadata { last_config: 0, consenter_metadata: Bytes::from_static(b"view") };
    let identifier = IdentifierHeader { identifier: 2, nonce: Bytes::from_static(b"n") };
    let identifier_header: Bytes = identifier.encode_to_vec().into();
    let signature = MetadataSignature {
        identifier_header: identifier_header.clone(),
        signature: Bytes::from_static(b"sig"),
        ..MetadataSignature::default()
    };
    let slot = Metadata { value: said.to_value(), signatures: vec![signature] };
    metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, slot.encode_to_vec().into());
    let read = metadata::signatures(&block).unwrap();
    assert_eq!(read.metadata, said);
    assert_eq!(read.signatures[0].signer, BlockSigner::Consenter(identifier));
    let der = block::header_bytes(block.header.as_ref().unwrap());
    let expected = [&said.to_value()[..], &identifier_header, &der].concat();
    assert_eq!(read.signatures[0].signed, expected);
}

#[test]
fn a_genesis_block_says_its_last_config_without_a_signature() {
    let mut genesis = block::new(0, Bytes::new(), vec![config_transaction()]);
    metadata::set_unsigned(&mut genesis, &OrdererMetadata::default());
    assert_eq!(metadata::last_config(&genesis).unwrap(), 0);
    assert!(metadata::signatures(&genesis).unwrap().signatures.is_empty());
    assert_eq!(metadata::orderer_metadata(&genesis).unwrap().wrapped().unwrap(), "");
}

#[test]
fn metadata_that_cannot_be_read_is_an_error() {
    let mut block = block::new(1, Bytes::new(), vec![envelope(b"a", b"s")]);
    assert!(matches!(metadata::last_config(&block), Err(MetadataError::Empty { .. })));
    block.metadata = None;
    assert!(matches!(metadata::last_config(&block), Err(MetadataError::Empty { .. })));
    let garbage = Bytes::from_static(&[0xff]);
    metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, garbage);
    assert!(matches!(metadata::signatures(&block), Err(MetadataError::Decode { .. })));
    let nobody = Metadata {
        value: OrdererMetadata::default().to_value(),
        signatures: vec![MetadataSignature::default()],
    };
    metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, nobody.encode_to_vec().into());
    let refused = metadata::signatures(&block);
    assert!(matches!(refused, Err(MetadataError::Signer { index: 0 })));
    block.header = None;
    assert!(matches!(metadata::signatures(&block), Err(MetadataError::Header)));
}

#[test]
fn filter_and_commit_hash_have_their_slots() {
    let mut block = block::new(1, Bytes::new(), vec![envelope(b"a", b"s"), envelope(b"b", b"s")]);
    assert_eq!(metadata::filter(&block), None);
    assert_eq!(metadata::commit_hash(&block).unwrap(), "");
    let filter = TxFilter::from_codes(&[ValidationCode::Valid, ValidationCode::BadRwset]);
    metadata::set_filter(&mut block, filter.clone());
    metadata::set_commit_hash(&mut block, &[7; 32]);
    assert_eq!(metadata::filter(&block), Some(filter));
    assert_eq!(&metadata::commit_hash(&block).unwrap()[..], [7; 32]);
    let slots = &block.metadata.as_ref().unwrap().metadata;
    assert_eq!(slots.len(), 5);
    assert_eq!(&slots[2][..], [0, 22]);
    assert_eq!(&slots[4][..2], [0x0a, 32]);
}

fn any_envelope() -> impl Strategy<Value = Bytes> {
    (prop::collection::vec(any::<u8>(), 1..40), prop::collection::vec(any::<u8>(), 1..10)).prop_map(
        |(payload, signature)| {
            Envelope { payload: payload.into(), signature: signature.into() }.encode_to_vec().into()
        },
    )
}

proptest! {
    #[test]
    fn honest_blocks_are_sound(
        number: u64,
        data in prop::collection::vec(any_envelope(), 1..8),
        previous: [u8; 32],
    ) {
        let block = block::new(number, Bytes::copy_from_slice(&previous), data);
        prop_assert_eq!(block::check(&block), Ok(()));
        let again = Block::decode(block.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(block::check(&again), Ok(()));
    }

    /// No two lists of transactions that both pass have the same hash.
    #[test]
    fn what_passes_is_cut_in_one_way(
        data in prop::collection::vec(any_envelope(), 2..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = Bytes::from(data.concat());
        let cut = cut.index(whole.len() - 1) + 1;
        let other = vec![whole.slice(..cut), whole.slice(cut..)];
        if other != data {
            prop_assert!(block::check_transactions(1, &other).is_err());
        }
    }

    #[test]
    fn different_headers_have_different_bytes(a: u64, b: u64, x: [u8; 3], y: [u8; 3]) {
        let header = |number, hash: [u8; 3]| BlockHeader {
            number,
            previous_hash: Bytes::copy_from_slice(&hash),
            data_hash: Bytes::new(),
        };
        let same = block::header_bytes(&header(a, x)) == block::header_bytes(&header(b, y));
        prop_assert_eq!(same, (a, x) == (b, y));
    }

    #[test]
    fn hostile_blocks_are_errors(bytes: Vec<u8>) {
        let data = [Bytes::from(bytes.clone()), Bytes::from(bytes.clone())];
        let _ = block::check_transactions(1, &data);
        let mut block = block::new(1, Bytes::new(), data.to_vec());
        metadata::set_slot(&mut block, BlockMetadataIndex::Signatures, bytes.into());
        let _ = metadata::signatures(&block);
        let _ = metadata::last_config(&block);
    }
}
