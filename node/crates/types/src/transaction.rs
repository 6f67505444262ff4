//! Endorsed transactions: made from proposal responses, and taken apart for validation.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::{Envelope, Header, Payload, SignatureHeader},
    ext::{DecodeError, decode},
    peer::{
        ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeProposalPayload,
        Endorsement, Proposal, ProposalResponse, ProposalResponsePayload, Transaction,
        TransactionAction,
    },
};

use crate::{
    ParsedPayload, ValidationCode,
    proposal::{endorsed_bytes, payload_for_transaction},
    signer::{SignError, Signer},
};

/// A transaction could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The proposal cannot be decoded.
    #[error("failed to assemble a transaction")]
    Proposal(#[source] DecodeError),
    /// The signer is not the proposal's creator.
    #[error("failed to assemble a transaction: the signer is not the proposal's creator")]
    Creator,
    /// There are no responses.
    #[error("failed to assemble a transaction: there are no proposal responses")]
    NoResponses,
    /// A response has no payload, no status or no endorsement.
    #[error("failed to assemble a transaction: response {index} has no {part}")]
    Incomplete {
        /// The response's place.
        index: usize,
        /// What is missing.
        part: &'static str,
    },
    /// A response is an error (a status outside 200 to 399).
    #[error("failed to assemble a transaction: response {index} has status {status}: {message}")]
    Status {
        /// The response's place.
        index: usize,
        /// Its status.
        status: i32,
        /// Its message.
        message: String,
    },
    /// Two endorsers came to different results.
    #[error("failed to assemble a transaction: response {index} differs from the first")]
    Mismatch {
        /// The response's place.
        index: usize,
    },
    /// The payload could not be signed.
    #[error("failed to assemble a transaction")]
    Sign(#[source] SignError),
}

/// The payload of the transaction that `responses` endorse: the bytes that the proposal's creator
/// signs. Endorsements of one endorser count once (Fabric: protoutil/txutils.go).
///
/// # Errors
/// [`AssembleError`]; all responses must be successful and equal in their payload.
pub fn assemble(
    proposal: &Proposal,
    responses: &[ProposalResponse],
) -> Result<Bytes, AssembleError> {
    let header: Header =
        decode("header", proposal.header.clone()).map_err(AssembleError::Proposal)?;
    let payload: ChaincodeProposalPayload =
        decode("chaincode proposal payload", proposal.payload.clone())
            .map_err(AssembleError::Proposal)?;
    let action = endorsed_action(responses)?;
    let action_payload = ChaincodeActionPayload {
        chaincode_proposal_payload: payload_for_transaction(payload.input),
        action: Some(action),
    };
    let action = TransactionAction {
        header: header.signature_header.clone(),
        payload: action_payload.encode_to_vec().into(),
    };
    let transaction = Transaction { actions: vec![action] };
    let payload = Payload { header: Some(header), data: transaction.encode_to_vec().into() };
    Ok(payload.encode_to_vec().into())
}

/// The transaction that `responses` endorse, signed in the name of the proposal's creator.
///
/// # Errors
/// [`AssembleError`], as [`assemble`]; `signer` must be the proposal's creator.
pub fn assemble_signed(
    proposal: &Proposal,
    responses: &[ProposalResponse],
    signer: &dyn Signer,
) -> Result<Envelope, AssembleError> {
    let header: Header =
        decode("header", proposal.header.clone()).map_err(AssembleError::Proposal)?;
    let signature_header: SignatureHeader =
        decode("signature header", header.signature_header).map_err(AssembleError::Proposal)?;
    if signature_header.creator != signer.serialized_identity() {
        return Err(AssembleError::Creator);
    }
    let payload = assemble(proposal, responses)?;
    let signature = signer.sign(&payload).map_err(AssembleError::Sign)?;
    Ok(Envelope { payload, signature })
}

fn endorsed_action(
    responses: &[ProposalResponse],
) -> Result<ChaincodeEndorsedAction, AssembleError> {
    let first = responses.first().ok_or(AssembleError::NoResponses)?;
    let mut endorsers = BTreeSet::new();
    let mut endorsements = Vec::with_capacity(responses.len());
    for (index, response) in responses.iter().enumerate() {
        let endorsement = checked_endorsement(index, response)?;
        if response.payload != first.payload {
            return Err(AssembleError::Mismatch { index });
        }
        if endorsers.insert(endorsement.endorser.clone()) {
            endorsements.push(endorsement.clone());
        }
    }
    Ok(ChaincodeEndorsedAction { proposal_response_payload: first.payload.clone(), endorsements })
}

fn checked_endorsement(
    index: usize,
    response: &ProposalResponse,
) -> Result<&Endorsement, AssembleError> {
    let incomplete = |part| AssembleError::Incomplete { index, part };
    let answer = response.response.as_ref().ok_or_else(|| incomplete("status"))?;
    if !(200..400).contains(&answer.status) {
        let message = answer.message.clone();
        return Err(AssembleError::Status { index, status: answer.status, message });
    }
    if response.payload.is_empty() {
        return Err(incomplete("payload"));
    }
    response.endorsement.as_ref().ok_or_else(|| incomplete("endorsement"))
}

/// A committed transaction's content is not sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The outer layers cannot be decoded.
    #[error("failed to read a transaction")]
    Decode(#[source] DecodeError),
    /// There is not exactly one action.
    #[error("failed to read a transaction: it has {count} actions instead of one")]
    Actions {
        /// How many there are.
        count: usize,
    },
    /// A part that must be there is not.
    #[error("failed to read a transaction: it has no {part}")]
    Missing {
        /// The missing part.
        part: &'static str,
    },
    /// The endorsed proposal hash is not of this transaction's headers and input.
    #[error("failed to check a transaction: the proposal hash does not match")]
    ProposalHash,
    /// The response payload has no chaincode action.
    #[error("failed to read a transaction's response payload: it has no chaincode action")]
    NoAction,
    /// The chaincode action in the response payload cannot be decoded.
    #[error("failed to read a transaction's response payload")]
    Action(#[source] DecodeError),
}

impl TransactionError {
    /// The code under which a transaction with this fault is committed
    /// (Fabric: core/common/validation/msgvalidation.go, core/committer/txvalidator/v20).
    #[must_use]
    pub fn validation_code(&self) -> ValidationCode {
        match self {
            Self::Decode(_) | Self::Actions { .. } | Self::Missing { .. } | Self::ProposalHash => {
                ValidationCode::InvalidEndorserTransaction
            }
            Self::NoAction | Self::Action(_) => ValidationCode::BadResponsePayload,
        }
    }
}

/// The one action of an endorsed transaction, decoded, with the bytes that endorsers signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedTransaction {
    /// The chaincode proposal payload's bytes (no transient data).
    pub proposal_payload: Bytes,
    /// The bytes that endorsers signed, without their identities.
    pub response_payload: Bytes,
    /// Who endorsed.
    pub endorsements: Vec<Endorsement>,
    /// What the endorsers came to.
    pub action: ChaincodeAction,
}

impl ParsedTransaction {
    /// Decodes the data of an `ENDORSER_TRANSACTION` and checks that there is one action whose
    /// endorsed proposal hash is of these headers and this input
    /// (Fabric: core/common/validation/msgvalidation.go).
    ///
    /// # Errors
    /// [`TransactionError`] naming the layer or rule.
    pub fn parse(payload: &ParsedPayload) -> Result<Self, TransactionError> {
        let transaction: Transaction = read("transaction", payload.data.clone())?;
        let count = transaction.actions.len();
        let [action] = <[TransactionAction; 1]>::try_from(transaction.actions)
            .map_err(|_| TransactionError::Actions { count })?;
        let header: SignatureHeader = read("action's signature header", action.header.clone())?;
        present(&header.nonce, "nonce in the action's header")?;
        present(&header.creator, "creator in the action's header")?;
        let content: ChaincodeActionPayload = read("chaincode action payload", action.payload)?;
        let endorsed = content.action.ok_or(missing("endorsed action"))?;
        present(&endorsed.proposal_response_payload, "response payload")?;
        let response: ProposalResponsePayload =
            read("proposal response payload", endorsed.proposal_response_payload.clone())?;
        let hash = weft_crypto::sha256_parts([
            &payload.header.channel_header_bytes,
            &action.header,
            &content.chaincode_proposal_payload,
        ]);
        if hash != *response.proposal_hash {
            return Err(TransactionError::ProposalHash);
        }
        if response.extension.is_empty() {
            return Err(TransactionError::NoAction);
        }
        Ok(Self {
            proposal_payload: content.chaincode_proposal_payload,
            response_payload: endorsed.proposal_response_payload,
            endorsements: endorsed.endorsements,
            action: decode("chaincode action", response.extension)
                .map_err(TransactionError::Action)?,
        })
    }

    /// The bytes that the endorsement's signature covers.
    #[must_use]
    pub fn endorsed_bytes(&self, endorsement: &Endorsement) -> Vec<u8> {
        endorsed_bytes(&self.response_payload, &endorsement.endorser)
    }
}

fn read<M: prost::Message + Default>(
    what: &'static str,
    raw: Bytes,
) -> Result<M, TransactionError> {
    decode(what, raw).map_err(TransactionError::Decode)
}

fn missing(part: &'static str) -> TransactionError {
    TransactionError::Missing { part }
}

fn present(bytes: &Bytes, part: &'static str) -> Result<(), TransactionError> {
    if bytes.is_empty() { Err(missing(part)) } else { Ok(()) }
}
