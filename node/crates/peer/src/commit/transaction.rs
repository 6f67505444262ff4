//! What can be told of a transaction from its bytes and the channel's configuration alone.
//!
//! This is where nearly all of a block's processor time goes (decoding, the creator's signature,
//! the endorsers' signatures), and it needs no state, so it runs for many transactions at once and
//! ahead of the block's turn. What depends on state is in [`super::endorsement`] and in
//! [`weft_ledger`].

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_ledger::rwset::TxRwSet;
use weft_msp::{Authenticated, Identity, ValidAt};
use weft_protos::common::HeaderType;
use weft_protos::ext::decode;
use weft_protos::peer::{ChaincodeAction, ChaincodeEvent, ChaincodeHeaderExtension};
use weft_types::transaction::{ParsedTransaction, TransactionError};
use weft_types::{ParsedEnvelope, ParsedHeader, ValidationCode};

/// A transaction after all checks that need no state.
#[derive(Debug)]
pub struct Checked {
    /// The id under which the ledger files it; empty when there is none to be read.
    pub tx_id: String,
    /// What was found.
    pub outcome: Outcome,
}

/// What the checks without state found.
#[derive(Debug)]
pub enum Outcome {
    /// Not valid, whatever the state is.
    Invalid(ValidationCode),
    /// A configuration with a good envelope.
    Config,
    /// An endorsed transaction with good headers, creator, id and proposal hash. Whether its id is
    /// new comes before its content in the order of checks, so a fault of the content is kept until
    /// then.
    Endorsed(Result<Box<Endorsed>, ValidationCode>),
}

/// The content of an endorsed transaction.
#[derive(Debug)]
pub struct Endorsed {
    /// The chaincode that was invoked.
    pub chaincode: String,
    /// What it read and wrote; no namespace stands there twice.
    pub rwset: TxRwSet,
    /// Endorsers whose signatures hold, each once.
    pub endorsers: Vec<Authenticated>,
}

/// Checks the transaction in `raw` (an encoded envelope).
///
/// Identities are judged by [`ValidAt::Issuance`], as in Fabric: that a certificate has expired
/// since must not change what is in the chain. Orderers refuse expired creators when a transaction
/// is broadcast, and revocation lists are part of the configuration, so all peers agree.
#[must_use]
pub fn check(bundle: &Bundle, raw: Bytes) -> Checked {
    let (header, outcome) = match read_envelope(raw) {
        Ok(envelope) => {
            let outcome = check_content(bundle, &envelope).unwrap_or_else(Outcome::Invalid);
            (envelope.payload.header, outcome)
        }
        Err(code) => return Checked { tx_id: String::new(), outcome: Outcome::Invalid(code) },
    };
    Checked { tx_id: filing_id(header), outcome }
}

/// Checks a configuration's envelope up to, but without, the configuration itself.
///
/// # Errors
/// The code under which the transaction is committed.
pub(crate) fn check_envelope(bundle: &Bundle, raw: Bytes) -> Result<(), ValidationCode> {
    match check(bundle, raw).outcome {
        Outcome::Invalid(code) | Outcome::Endorsed(Err(code)) => Err(code),
        Outcome::Config => Ok(()),
        Outcome::Endorsed(Ok(_)) => Err(ValidationCode::InvalidConfigTransaction),
    }
}

fn filing_id(header: ParsedHeader) -> String {
    match header.channel_header.tx_id.is_empty() {
        true => header.tx_id_text(),
        false => header.channel_header.tx_id,
    }
}

fn read_envelope(raw: Bytes) -> Result<ParsedEnvelope, ValidationCode> {
    ParsedEnvelope::parse(raw).map_err(|error| error.validation_code())
}

fn check_content(bundle: &Bundle, envelope: &ParsedEnvelope) -> Result<Outcome, ValidationCode> {
    let header = envelope.header();
    let kind = header.check().map_err(|error| error.validation_code())?;
    check_creator(bundle, envelope)?;
    let outcome = match kind {
        HeaderType::EndorserTransaction => {
            header.check_tx_id().map_err(|_| ValidationCode::BadProposalTxid)?;
            match ParsedTransaction::parse(&envelope.payload) {
                Ok(transaction) => Outcome::Endorsed(Ok(transaction).and_then(|transaction| {
                    check_endorsed(bundle, header, transaction).map(Box::new)
                })),
                // A response payload that cannot be read is found out after a duplicate id.
                Err(TransactionError::Action(_)) => Outcome::Endorsed(Err(check_extension(header)
                    .err()
                    .unwrap_or(ValidationCode::BadResponsePayload))),
                Err(error) => return Err(error.validation_code()),
            }
        }
        HeaderType::Config => Outcome::Config,
        _ => return Err(ValidationCode::UnsupportedTxPayload),
    };
    if header.channel_id() != bundle.channel_id().as_str() {
        return Err(ValidationCode::TargetChainNotFound);
    }
    Ok(outcome)
}

fn check_creator(bundle: &Bundle, envelope: &ParsedEnvelope) -> Result<(), ValidationCode> {
    let bad = ValidationCode::BadCreatorSignature;
    let creator = bundle.msps().deserialize_identity(envelope.header().creator());
    let creator = creator.map_err(|_| bad)?;
    creator.validate(ValidAt::Issuance).map_err(|_| bad)?;
    creator.verify(&envelope.payload_bytes, &envelope.signature).map_err(|_| bad)
}

/// The checks of Fabric's dispatcher (core/committer/txvalidator/v20/plugindispatcher) that need no
/// state, in its order; then the endorsers' signatures.
fn check_endorsed(
    bundle: &Bundle,
    header: &ParsedHeader,
    transaction: ParsedTransaction,
) -> Result<Endorsed, ValidationCode> {
    let invoked = check_extension(header)?;
    if transaction.action == ChaincodeAction::default() {
        return Err(ValidationCode::BadResponsePayload);
    }
    let rwset =
        TxRwSet::parse(transaction.action.results.clone()).map_err(|_| ValidationCode::BadRwset)?;
    let invoked = invoked.ok_or(ValidationCode::InvalidOtherReason)?;
    let chaincode = check_chaincode(invoked, &transaction.action)?;
    check_event(&chaincode, &transaction.action.events)?;
    check_namespaces(&rwset)?;
    let endorsers = endorsers(bundle, &transaction);
    Ok(Endorsed { chaincode, rwset, endorsers })
}

/// The name of the invoked chaincode; `None` when the header has none.
fn check_extension(header: &ParsedHeader) -> Result<Option<String>, ValidationCode> {
    let extension = header.channel_header.extension.clone();
    let extension: ChaincodeHeaderExtension = decode("chaincode header extension", extension)
        .map_err(|_| ValidationCode::BadHeaderExtension)?;
    Ok(extension.chaincode_id.map(|id| id.name))
}

fn check_chaincode(invoked: String, action: &ChaincodeAction) -> Result<String, ValidationCode> {
    let executed = action.chaincode_id.as_ref().ok_or(ValidationCode::InvalidOtherReason)?;
    if invoked.is_empty() || invoked != executed.name || executed.version.is_empty() {
        return Err(ValidationCode::InvalidChaincode);
    }
    Ok(invoked)
}

fn check_event(chaincode: &str, events: &Bytes) -> Result<(), ValidationCode> {
    if events.is_empty() {
        return Ok(());
    }
    let event: ChaincodeEvent = decode("chaincode event", events.clone())
        .map_err(|_| ValidationCode::InvalidOtherReason)?;
    match event.chaincode_id == chaincode {
        true => Ok(()),
        false => Err(ValidationCode::InvalidOtherReason),
    }
}

fn check_namespaces(rwset: &TxRwSet) -> Result<(), ValidationCode> {
    let mut seen = HashSet::with_capacity(rwset.namespaces.len());
    match rwset.namespaces.iter().all(|part| seen.insert(part.namespace.as_str())) {
        true => Ok(()),
        false => Err(ValidationCode::IllegalWriteset),
    }
}

/// Endorsers whose signatures hold. A signer counts once and is verified once: nobody can make a
/// peer check the same signature over and over (Fabric: common/policies/policy.go).
fn endorsers(bundle: &Bundle, transaction: &ParsedTransaction) -> Vec<Authenticated> {
    let mut known: Vec<Arc<Identity>> = Vec::with_capacity(transaction.endorsements.len());
    let mut found = Vec::with_capacity(transaction.endorsements.len());
    for endorsement in &transaction.endorsements {
        let Ok(identity) = bundle.msps().deserialize_identity(&endorsement.endorser) else {
            continue;
        };
        if known.iter().any(|known| known.is_same(&identity)) {
            continue;
        }
        let signed = transaction.endorsed_bytes(endorsement);
        if let Ok(endorser) = identity.authenticate(&signed, &endorsement.signature) {
            known.push(identity);
            found.push(endorser);
        }
    }
    found
}
