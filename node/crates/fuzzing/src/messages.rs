//! What clients send: envelopes, proposals, packages.

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::rwset::TxRwSet;
use weft_orderer::msgprocessor::{self, Class, Processor};
use weft_package::Package;
use weft_peer::commit::transaction;
use weft_protos::peer::SignedProposal;
use weft_testkit::clock::NOW;
use weft_types::proposal::ParsedProposal;
use weft_types::transaction::ParsedTransaction;
use weft_types::ParsedEnvelope;

use crate::fixture::BUNDLE;

/// An envelope at an orderer's Broadcast, in a block, and as a request to read.
pub(crate) fn envelope(data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    let checked = transaction::check(&BUNDLE, raw.clone());
    assert!(checked.tx_id.len() <= data.len());
    let Ok(envelope) = ParsedEnvelope::parse(raw) else { return };
    let again = ParsedEnvelope::from_envelope(envelope.to_envelope()).expect("it was parsed");
    assert_eq!(again.payload_bytes, envelope.payload_bytes);
    let processor = Processor::new(&BUNDLE, NOW);
    match msgprocessor::classify(&envelope) {
        Ok(Class::Normal) => drop(processor.normal(&envelope)),
        Ok(Class::ConfigUpdate) => drop(BUNDLE.propose(&envelope.to_envelope(), NOW)),
        Err(_) => drop(processor.config(&envelope)),
    }
    let _ = processor.reader(&envelope);
    if let Ok(transaction) = ParsedTransaction::parse(&envelope.payload) {
        let _ = TxRwSet::parse(transaction.action.results);
    }
}

/// A proposal at an endorser.
pub(crate) fn proposal(data: &[u8]) {
    let Ok(signed) = SignedProposal::decode(data) else { return };
    let Ok(proposal) = ParsedProposal::parse(signed) else { return };
    let _ = BUNDLE.msps().deserialize_identity(proposal.header.creator());
}

/// A chaincode package that is installed.
pub(crate) fn package(data: &[u8]) {
    let Ok(package) = Package::parse(data) else { return };
    let _ = package.reach();
    assert!(!package.id().to_string().is_empty());
}
