#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{NONCE, TestSigner, channel, now};
use proptest::prelude::*;
use prost::Message;
use weft_crypto::sha256;
use weft_protos::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader},
    orderer::{SeekInfo, seek_info::SeekBehavior, seek_position},
    peer::{
        ChaincodeActionPayload, ChaincodeId, ChaincodeInvocationSpec, ChaincodeProposalPayload,
        Proposal, ProposalResponse, Response, SignedProposal, Transaction,
    },
};
use weft_types::{
    EnvelopeError, ParsedEnvelope, ParsedPayload, Signer, TxId, ValidationCode, config,
    envelope::EnvelopeSpec,
    proposal::{
        self, BuiltSignedProposal, ParsedProposal, ProposalError, ProposalSpec, Simulation,
    },
    seek::{Position, Seek},
    transaction::{self, AssembleError, ParsedTransaction, TransactionError},
};

fn spec() -> ProposalSpec {
    ProposalSpec {
        channel_id: Some(channel()),
        chaincode: "asset".to_owned(),
        args: vec![Bytes::from_static(b"put"), Bytes::from_static(b"key")],
        transient: BTreeMap::from([("secret".to_owned(), Bytes::from_static(b"hidden"))]),
        is_init: false,
        timestamp: now(),
        nonce: NONCE,
    }
}

fn simulation(results: &'static [u8]) -> Simulation {
    Simulation {
        results: Bytes::from_static(results),
        events: Bytes::new(),
        response: Response { status: 200, message: "OK".to_owned(), payload: Bytes::new() },
        chaincode_id: ChaincodeId { name: "asset".to_owned(), ..ChaincodeId::default() },
    }
}

struct Flow {
    client: TestSigner,
    endorsers: [TestSigner; 2],
    built: BuiltSignedProposal,
    responses: Vec<ProposalResponse>,
}

fn flow() -> Flow {
    let client = TestSigner::new("client");
    let endorsers = [TestSigner::new("peer1"), TestSigner::new("peer2")];
    let built = spec().sign(&client).unwrap();
    let parsed = ParsedProposal::parse(built.signed.clone()).unwrap();
    let endorse = |by| proposal::endorse(&parsed, simulation(b"rwset"), by).unwrap();
    let responses = endorsers.iter().map(|by| endorse(by)).collect();
    Flow { client, endorsers, built, responses }
}

#[test]
fn a_transaction_goes_from_proposal_to_validation() {
    let Flow { client, endorsers, built, responses } = flow();
    let envelope = transaction::assemble_signed(&built.proposal, &responses, &client).unwrap();
    let parsed = ParsedEnvelope::parse(envelope.encode_to_vec().into()).unwrap();
    assert!(client.verifies(&parsed.payload_bytes, &parsed.signature));
    assert_eq!(parsed.header().check(), Ok(HeaderType::EndorserTransaction));
    assert_eq!(parsed.header().check_tx_id(), Ok(built.tx_id));
    assert_eq!(parsed.header().channel_id(), "supply");
    assert_eq!(parsed.header().timestamp(), Some(now()));
    assert_eq!(parsed.to_envelope(), envelope);
    let action = ParsedTransaction::parse(&parsed.payload).unwrap();
    assert_eq!(action.action.results, "rwset");
    assert_eq!(action.endorsements.len(), 2);
    for (endorser, endorsement) in endorsers.iter().zip(&action.endorsements) {
        assert_eq!(endorsement.endorser, endorser.name);
        assert!(endorser.verifies(&action.endorsed_bytes(endorsement), &endorsement.signature));
    }
}

#[test]
fn transient_data_is_for_the_endorser_and_not_in_the_transaction() {
    let Flow { client, built, responses, .. } = flow();
    let parsed = ParsedProposal::parse(built.signed.clone()).unwrap();
    assert_eq!(parsed.transient["secret"], "hidden");
    let envelope = transaction::assemble_signed(&built.proposal, &responses, &client).unwrap();
    let raw = envelope.encode_to_vec();
    assert!(!raw.windows(6).any(|window| window == b"hidden"));
    // The hash that endorsers refer to does not depend on it either.
    let other = ProposalSpec { transient: BTreeMap::new(), ..spec() }.sign(&client).unwrap();
    let other = ParsedProposal::parse(other.signed).unwrap();
    assert_eq!(other.proposal_hash, parsed.proposal_hash);
}

#[test]
fn the_proposal_hash_covers_both_headers_and_the_bare_payload() {
    let Flow { built, .. } = flow();
    let parsed = ParsedProposal::parse(built.signed).unwrap();
    let header = Header::decode(built.proposal.header).unwrap();
    let payload = ChaincodeProposalPayload::decode(built.proposal.payload).unwrap();
    let length = u8::try_from(payload.input.len()).unwrap();
    let bare = [&[0x0a, length][..], &payload.input].concat();
    let expected = sha256(&[&header.channel_header[..], &header.signature_header, &bare].concat());
    assert_eq!(parsed.proposal_hash, expected);
}

#[test]
fn a_proposal_is_what_was_asked_for() {
    let client = TestSigner::new("client");
    let built = spec().sign(&client).unwrap();
    assert_eq!(built.tx_id, TxId::compute(&NONCE, b"client"));
    assert!(client.verifies(&built.signed.proposal_bytes, &built.signed.signature));
    let parsed = ParsedProposal::parse(built.signed).unwrap();
    assert_eq!((parsed.tx_id, parsed.chaincode.as_str()), (built.tx_id, "asset"));
    assert_eq!(parsed.input.args, spec().args);
    assert_eq!(parsed.header_bytes, built.proposal.header);
    let offline = spec().build(client.serialized_identity());
    assert_eq!((offline.tx_id, offline.proposal), (built.tx_id, built.proposal));
}

#[test]
fn a_proposal_may_be_of_no_channel() {
    let client = TestSigner::new("client");
    let built = ProposalSpec { channel_id: None, ..spec() }.sign(&client).unwrap();
    assert_eq!(ParsedProposal::parse(built.signed).unwrap().header.channel_id(), "");
}

/// A signed proposal whose parts were changed before it was encoded.
fn changed(
    change: impl Fn(&mut ChannelHeader, &mut SignatureHeader, &mut Proposal),
) -> SignedProposal {
    let built = spec().build(Bytes::from_static(b"client"));
    let mut proposal = built.proposal;
    let header = Header::decode(proposal.header.clone()).unwrap();
    let mut channel_header = ChannelHeader::decode(header.channel_header).unwrap();
    let mut signature_header = SignatureHeader::decode(header.signature_header).unwrap();
    change(&mut channel_header, &mut signature_header, &mut proposal);
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    proposal.header = header.encode_to_vec().into();
    SignedProposal {
        proposal_bytes: proposal.encode_to_vec().into(),
        signature: Bytes::from_static(b"s"),
    }
}

#[test]
fn malformed_proposals_are_errors() {
    let check = |signed: SignedProposal, expected: &str| {
        let error = ParsedProposal::parse(signed).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?} is not {expected}");
    };
    assert!(ParsedProposal::parse(changed(|_, _, _| {})).is_ok());
    check(SignedProposal::default(), "Missing { part: \"proposal bytes\"");
    let unsigned = SignedProposal { signature: Bytes::new(), ..changed(|_, _, _| {}) };
    check(unsigned, "Missing { part: \"signature\"");
    let garbage = SignedProposal {
        proposal_bytes: Bytes::from_static(&[0xff]),
        signature: Bytes::from_static(b"s"),
    };
    check(garbage, "Decode");
    check(changed(|header, _, _| header.r#type = 4), "Header(Type");
    check(changed(|header, _, _| header.r#type = 2), "Type { header_type: 2 }");
    check(changed(|header, _, _| header.epoch = 1), "Header(Epoch");
    check(changed(|_, header, _| header.nonce = Bytes::new()), "Header(Nonce");
    check(changed(|_, header, _| header.creator = Bytes::new()), "Header(Creator");
    check(changed(|header, _, _| header.tx_id = "0".to_owned()), "TxId");
    check(changed(|_, header, _| header.nonce = Bytes::from_static(b"x")), "TxId");
    let name = "Missing { part: \"chaincode name\"";
    check(changed(|header, _, _| header.extension = Bytes::new()), name);
    check(
        changed(|_, _, proposal| proposal.payload = Bytes::new()),
        "Missing { part: \"chaincode spec\"",
    );
    check(changed(|_, _, proposal| rename(proposal, "other")), "Chaincode");
    check(changed(|_, _, proposal| without_input(proposal)), "Missing { part: \"chaincode input\"");
    let config = changed(|header, _, _| header.r#type = HeaderType::Config as i32);
    assert!(ParsedProposal::parse(config).is_ok());
}

fn edit(proposal: &mut Proposal, change: impl Fn(&mut ChaincodeInvocationSpec)) {
    let mut payload = ChaincodeProposalPayload::decode(proposal.payload.clone()).unwrap();
    let mut invocation = ChaincodeInvocationSpec::decode(payload.input).unwrap();
    change(&mut invocation);
    payload.input = invocation.encode_to_vec().into();
    proposal.payload = payload.encode_to_vec().into();
}

fn rename(proposal: &mut Proposal, name: &str) {
    edit(proposal, |invocation| {
        let spec = invocation.chaincode_spec.as_mut().unwrap();
        spec.chaincode_id.as_mut().unwrap().name = name.to_owned();
    });
}

fn without_input(proposal: &mut Proposal) {
    edit(proposal, |invocation| invocation.chaincode_spec.as_mut().unwrap().input = None);
}

#[test]
fn responses_that_do_not_agree_make_no_transaction() {
    let Flow { client, endorsers, built, mut responses } = flow();
    let assemble =
        |responses: &[ProposalResponse]| transaction::assemble(&built.proposal, responses);
    assert!(matches!(assemble(&[]), Err(AssembleError::NoResponses)));
    let parsed = ParsedProposal::parse(built.signed.clone()).unwrap();
    let other = proposal::endorse(&parsed, simulation(b"different"), &endorsers[1]).unwrap();
    let differing = [responses[0].clone(), other];
    assert!(matches!(assemble(&differing), Err(AssembleError::Mismatch { index: 1 })));
    let stranger = TestSigner::new("stranger");
    let refused = transaction::assemble_signed(&built.proposal, &responses, &stranger);
    assert!(matches!(refused, Err(AssembleError::Creator)));
    let twice = [responses[0].clone(), responses[0].clone()];
    let payload = ParsedPayload::parse(assemble(&twice).unwrap()).unwrap();
    assert_eq!(ParsedTransaction::parse(&payload).unwrap().endorsements.len(), 1);
    responses[1].response.as_mut().unwrap().status = 500;
    let failed = transaction::assemble_signed(&built.proposal, &responses, &client);
    assert!(matches!(failed, Err(AssembleError::Status { index: 1, status: 500, .. })));
    responses[1].response = None;
    assert!(matches!(assemble(&responses), Err(AssembleError::Incomplete { index: 1, .. })));
    responses[0].endorsement = None;
    assert!(matches!(assemble(&responses), Err(AssembleError::Incomplete { index: 0, .. })));
}

fn transaction_payload() -> Payload {
    let Flow { built, responses, .. } = flow();
    Payload::decode(transaction::assemble(&built.proposal, &responses).unwrap()).unwrap()
}

fn parse(payload: &Payload) -> Result<ParsedTransaction, TransactionError> {
    let parsed = ParsedPayload::parse(payload.encode_to_vec().into()).unwrap();
    ParsedTransaction::parse(&parsed)
}

#[test]
fn broken_transactions_have_their_validation_code() {
    let check = |change: &dyn Fn(&mut Transaction), expected: &str, code: ValidationCode| {
        let mut payload = transaction_payload();
        let mut transaction = Transaction::decode(payload.data).unwrap();
        change(&mut transaction);
        payload.data = transaction.encode_to_vec().into();
        let error = parse(&payload).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?} is not {expected}");
        assert_eq!(error.validation_code(), code);
    };
    let invalid = ValidationCode::InvalidEndorserTransaction;
    check(&|tx| tx.actions.clear(), "Actions { count: 0 }", invalid);
    check(&|tx| tx.actions.push(tx.actions[0].clone()), "Actions { count: 2 }", invalid);
    check(&|tx| tx.actions[0].header = Bytes::new(), "Missing", invalid);
    check(&|tx| tx.actions[0].payload = Bytes::new(), "Missing", invalid);
    check(&|tx| tx.actions[0].payload = Bytes::from_static(&[0xff]), "Decode", invalid);
    let with_content = |change: &dyn Fn(&mut ChaincodeActionPayload), tx: &mut Transaction| {
        let action = &mut tx.actions[0];
        let mut content = ChaincodeActionPayload::decode(action.payload.clone()).unwrap();
        change(&mut content);
        action.payload = content.encode_to_vec().into();
    };
    let other_input = |content: &mut ChaincodeActionPayload| {
        content.chaincode_proposal_payload = Bytes::from_static(b"other");
    };
    check(&|tx| with_content(&other_input, tx), "ProposalHash", invalid);
    let no_action = |content: &mut ChaincodeActionPayload| content.action = None;
    check(&|tx| with_content(&no_action, tx), "Missing", invalid);
    let response = |extension: &'static [u8]| {
        move |content: &mut ChaincodeActionPayload| {
            let action = content.action.as_mut().unwrap();
            let mut payload = weft_protos::peer::ProposalResponsePayload::decode(
                action.proposal_response_payload.clone(),
            )
            .unwrap();
            payload.extension = Bytes::from_static(extension);
            action.proposal_response_payload = payload.encode_to_vec().into();
        }
    };
    let bad = ValidationCode::BadResponsePayload;
    check(&|tx| with_content(&response(b""), tx), "NoAction", bad);
    check(&|tx| with_content(&response(b"\xff"), tx), "Action", bad);
}

#[test]
fn an_endorsement_does_not_carry_over_to_another_header() {
    let mut payload = transaction_payload();
    assert!(parse(&payload).is_ok());
    let header = payload.header.as_mut().unwrap();
    let mut channel_header = ChannelHeader::decode(header.channel_header.clone()).unwrap();
    channel_header.channel_id = "other".to_owned();
    header.channel_header = channel_header.encode_to_vec().into();
    assert_eq!(parse(&payload), Err(TransactionError::ProposalHash));
}

#[test]
fn broken_envelopes_have_their_validation_code() {
    let check = |raw: Bytes, expected: &str, code: ValidationCode| {
        let error =
            ParsedEnvelope::parse(raw).and_then(|parsed| parsed.header().check()).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?} is not {expected}");
        assert_eq!(error.validation_code(), code);
    };
    let wrap = |payload: Vec<u8>| -> Bytes {
        Envelope { payload: payload.into(), signature: Bytes::new() }.encode_to_vec().into()
    };
    let headers = |channel: ChannelHeader, signature: SignatureHeader| {
        let header = Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: signature.encode_to_vec().into(),
        };
        wrap(Payload { header: Some(header), data: Bytes::new() }.encode_to_vec())
    };
    let by = |creator: &'static str, nonce: &'static str| SignatureHeader {
        creator: creator.into(),
        nonce: nonce.into(),
    };
    let of = |r#type| ChannelHeader { r#type, ..ChannelHeader::default() };
    let header = ValidationCode::BadCommonHeader;
    check(Bytes::new(), "Empty", ValidationCode::NilEnvelope);
    check(Bytes::from_static(&[0xff]), "Envelope", ValidationCode::InvalidOtherReason);
    check(wrap(vec![]), "Empty", ValidationCode::NilEnvelope);
    check(wrap(vec![0xff]), "Payload", ValidationCode::BadPayload);
    check(wrap(vec![0x12, 1, 0]), "NoHeader", header);
    check(wrap(vec![0x0a, 3, 0x0a, 1, 0xff]), "Header", header);
    check(headers(of(3), by("c", "")), "Nonce", header);
    check(headers(of(3), by("", "n")), "Creator", header);
    check(headers(of(0), by("c", "n")), "Type { header_type: 0 }", header);
    check(headers(of(99), by("c", "n")), "Type { header_type: 99 }", header);
    check(headers(ChannelHeader { epoch: 1, ..of(3) }, by("c", "n")), "Epoch", header);
    let unsigned = Envelope { payload: Bytes::new(), signature: Bytes::from_static(b"s") };
    check(unsigned.encode_to_vec().into(), "NoPayload", header);
}

#[test]
fn a_configuration_is_filed_under_its_computed_id() {
    let signer = TestSigner::new("orderer");
    let envelope =
        config::config_envelope(&channel(), &Default::default(), &signer, now(), NONCE).unwrap();
    let parsed = ParsedEnvelope::from_envelope(envelope).unwrap();
    assert_eq!(parsed.header().channel_header.tx_id, "");
    assert_eq!(parsed.header().tx_id_text(), TxId::compute(&NONCE, b"orderer").to_string());
    assert!(parsed.header().check_tx_id().is_err());
}

#[test]
fn a_configuration_update_carries_its_signatures() {
    let admin = TestSigner::new("admin");
    let signature = config::sign_update(b"update", &admin, NONCE).unwrap();
    let signed = [&signature.signature_header[..], b"update"].concat();
    assert!(admin.verifies(&signed, &signature.signature));
    let update = weft_protos::common::ConfigUpdateEnvelope {
        config_update: Bytes::from_static(b"update"),
        signatures: vec![signature],
    };
    let envelope =
        config::update_envelope(&channel(), update.clone(), &admin, now(), NONCE).unwrap();
    let parsed = ParsedEnvelope::from_envelope(envelope).unwrap();
    assert_eq!(parsed.header().check(), Ok(HeaderType::ConfigUpdate));
    assert_eq!(parsed.payload.data, update.encode_to_vec());
    assert!(admin.verifies(&parsed.payload_bytes, &parsed.signature));
}

#[test]
fn a_seek_says_where_to_start_and_stop() {
    let client = TestSigner::new("client");
    let hash = Bytes::from_static(&[3; 32]);
    let envelope = Seek::from(Position::Block(7))
        .sign(&channel(), &client, now(), NONCE, hash.clone())
        .unwrap();
    let parsed = ParsedEnvelope::from_envelope(envelope).unwrap();
    assert!(client.verifies(&parsed.payload_bytes, &parsed.signature));
    assert_eq!(parsed.header().header_type(), Some(HeaderType::DeliverSeekInfo));
    assert_eq!(parsed.header().channel_header.tls_cert_hash, hash);
    let info = SeekInfo::decode(parsed.payload.data).unwrap();
    let number = |position: Option<weft_protos::orderer::SeekPosition>| match position?.r#type? {
        seek_position::Type::Specified(at) => Some(at.number),
        _ => None,
    };
    assert_eq!((number(info.start), number(info.stop)), (Some(7), Some(u64::MAX)));
    assert_eq!(info.behavior, SeekBehavior::BlockUntilReady as i32);
    let one = Seek::one(Position::Newest).to_info();
    assert_eq!(one.behavior, SeekBehavior::FailIfNotReady as i32);
    assert_eq!(one.start, one.stop);
}

#[test]
fn an_unsigned_envelope_has_no_creator() {
    let spec = EnvelopeSpec {
        header_type: HeaderType::Config,
        channel_id: Some(channel()),
        data: Bytes::from_static(b"d"),
        timestamp: now(),
        nonce: NONCE,
        tls_cert_hash: Bytes::new(),
    };
    let envelope = spec.unsigned();
    assert!(envelope.signature.is_empty());
    let parsed = ParsedEnvelope::from_envelope(envelope).unwrap();
    assert_eq!(parsed.header().check(), Err(EnvelopeError::Nonce));
}

proptest! {
    #[test]
    fn hostile_bytes_are_errors(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = ParsedEnvelope::parse(bytes.clone());
        let signed = SignedProposal { proposal_bytes: bytes.clone(), signature: bytes.clone() };
        prop_assert!(ParsedProposal::parse(signed).is_err());
        let payload = transaction_payload_with(bytes);
        prop_assert!(ParsedTransaction::parse(&payload).is_err());
    }

    /// Whatever changes on the way, the result is an error or a transaction with the same hash.
    #[test]
    fn a_changed_transaction_is_seen(byte: prop::sample::Index, bit in 0..8_u8) {
        let honest = transaction_payload();
        let reference = parse(&honest).unwrap();
        let mut data = honest.data.to_vec();
        let at = byte.index(data.len());
        data[at] ^= 1 << bit;
        let payload = Payload { data: data.into(), ..honest };
        if let Ok(parsed) = parse(&payload) {
            // What the proposal hash covers is as it was; endorsements and results have their
            // own signatures.
            prop_assert_eq!(parsed.proposal_payload, reference.proposal_payload);
        }
    }

    #[test]
    fn any_proposal_survives(
        args in prop::collection::vec(any::<Vec<u8>>(), 0..4),
        name in "[a-z]{1,10}",
        nonce: [u8; 24],
        is_init: bool,
    ) {
        let args: Vec<Bytes> = args.into_iter().map(Bytes::from).collect();
        let asked = ProposalSpec { args: args.clone(), chaincode: name.clone(), nonce, is_init, ..spec() };
        let built = asked.build(Bytes::from_static(b"client"));
        let signed = SignedProposal {
            proposal_bytes: built.proposal.encode_to_vec().into(),
            signature: Bytes::from_static(b"s"),
        };
        let parsed = ParsedProposal::parse(signed).unwrap();
        prop_assert_eq!(parsed.input.args, args);
        prop_assert_eq!((parsed.chaincode, parsed.input.is_init), (name, is_init));
        prop_assert_eq!(parsed.tx_id, built.tx_id);
    }
}

fn transaction_payload_with(data: Bytes) -> ParsedPayload {
    let payload = Payload { data, ..transaction_payload() };
    ParsedPayload::parse(payload.encode_to_vec().into()).unwrap()
}

#[test]
fn errors_of_proposals_name_the_step() {
    let error = ProposalError::Missing { part: "header" };
    assert_eq!(error.to_string(), "failed to read a proposal: it has no header");
}
