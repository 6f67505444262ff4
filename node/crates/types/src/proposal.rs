//! Proposals: what a client asks endorsers to simulate, and what they answer.
//!
//! The proposal hash ties an endorsement to its proposal: it covers the channel header, the
//! signature header, and the chaincode proposal payload without its transient data
//! (Fabric: protoutil/txutils.go).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use weft_protos::{
    common::{ChannelHeader, Header, HeaderType, SignatureHeader},
    ext::{DecodeError, decode_bounded},
    peer::{
        ChaincodeAction, ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput,
        ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec, Endorsement, Proposal,
        ProposalResponse, ProposalResponsePayload, Response, SignedProposal,
    },
};

use crate::{
    ChannelId, EnvelopeError, ParsedHeader, Timestamp, TxId, TxIdError,
    signer::{Nonce, SignError, Signer},
};

/// A proposal cannot be read, or breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// A layer cannot be decoded.
    #[error("failed to read a proposal")]
    Decode(#[source] DecodeError),
    /// The headers cannot be read, or break a rule.
    #[error("failed to read a proposal's header")]
    Header(#[source] EnvelopeError),
    /// A part that must be there is not.
    #[error("failed to read a proposal: it has no {part}")]
    Missing {
        /// The missing part.
        part: &'static str,
    },
    /// The header's type is not a transaction's.
    #[error("failed to check a proposal: header type {header_type} is not a transaction's")]
    Type {
        /// The number of the type.
        header_type: i32,
    },
    /// The header names another chaincode than the input.
    #[error(
        "failed to check a proposal: the header names chaincode {header:?}, the input {input:?}"
    )]
    Chaincode {
        /// In the header's extension.
        header: String,
        /// In the invocation.
        input: String,
    },
    /// The transaction id is not of the nonce and the creator.
    #[error("failed to check a proposal")]
    TxId(#[source] TxIdError),
}

/// A received proposal, decoded to the chaincode's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedProposal {
    /// The bytes that the creator signed.
    pub proposal_bytes: Bytes,
    /// The creator's signature.
    pub signature: Bytes,
    /// The encoded `Header`, as it goes into the response.
    pub header_bytes: Bytes,
    /// Both headers.
    pub header: ParsedHeader,
    /// The transaction's id, checked.
    pub tx_id: TxId,
    /// The name of the chaincode.
    pub chaincode: String,
    /// The version of the chaincode, as the client put it; usually empty.
    pub chaincode_version: String,
    /// What the chaincode gets.
    pub input: ChaincodeInput,
    /// Data for the chaincode that is not part of the transaction.
    pub transient: BTreeMap<String, Bytes>,
    /// What the endorsement refers to.
    pub proposal_hash: [u8; 32],
}

impl ParsedProposal {
    /// Decodes a signed proposal and checks everything that needs neither keys nor state: parts
    /// are there, type, epoch, nonce, creator and transaction id
    /// (Fabric: core/endorser/msgvalidation.go).
    ///
    /// A header that names another chaincode than the input is refused here; Fabric takes the
    /// header's name and ignores the other.
    ///
    /// # Errors
    /// [`ProposalError`] naming the layer or rule.
    pub fn parse(signed: SignedProposal) -> Result<Self, ProposalError> {
        let SignedProposal { proposal_bytes, signature } = signed;
        present(&proposal_bytes, "proposal bytes")?;
        present(&signature, "signature")?;
        let proposal: Proposal = read("proposal", proposal_bytes.clone())?;
        present(&proposal.header, "header")?;
        let header = ParsedHeader::parse(proposal.header.clone()).map_err(ProposalError::Header)?;
        // Fabric's own command line joins channels with proposals of type CONFIG.
        let header_type = header.check().map_err(ProposalError::Header)?;
        if !matches!(header_type, HeaderType::EndorserTransaction | HeaderType::Config) {
            return Err(ProposalError::Type { header_type: header_type as i32 });
        }
        let tx_id = header.check_tx_id().map_err(ProposalError::TxId)?;
        let chaincode = named_chaincode(&header)?;
        let payload: ChaincodeProposalPayload =
            read("chaincode proposal payload", proposal.payload)?;
        let input = invocation(payload.input.clone(), &chaincode.name)?;
        let proposal_hash = proposal_hash(&header, &payload_for_transaction(payload.input));
        Ok(Self {
            proposal_bytes,
            signature,
            header_bytes: proposal.header,
            header,
            tx_id,
            chaincode: chaincode.name,
            chaincode_version: chaincode.version,
            input,
            transient: payload.transient_map,
            proposal_hash,
        })
    }
}

fn read<M: prost::Name + Default>(what: &'static str, raw: Bytes) -> Result<M, ProposalError> {
    decode_bounded(what, raw).map_err(ProposalError::Decode)
}

fn present(bytes: &Bytes, part: &'static str) -> Result<(), ProposalError> {
    if bytes.is_empty() { Err(ProposalError::Missing { part }) } else { Ok(()) }
}

fn named_chaincode(header: &ParsedHeader) -> Result<ChaincodeId, ProposalError> {
    let extension: ChaincodeHeaderExtension =
        read("chaincode header extension", header.channel_header.extension.clone())?;
    match extension.chaincode_id {
        Some(id) if !id.name.is_empty() => Ok(id),
        _ => Err(ProposalError::Missing { part: "chaincode name" }),
    }
}

fn invocation(raw: Bytes, header_name: &str) -> Result<ChaincodeInput, ProposalError> {
    let invocation: ChaincodeInvocationSpec = read("chaincode invocation", raw)?;
    let spec =
        invocation.chaincode_spec.ok_or(ProposalError::Missing { part: "chaincode spec" })?;
    let input_name = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
    if !input_name.is_empty() && input_name != header_name {
        let header = header_name.to_owned();
        return Err(ProposalError::Chaincode { header, input: input_name });
    }
    spec.input.ok_or(ProposalError::Missing { part: "chaincode input" })
}

/// The chaincode proposal payload as it goes into the transaction: without transient data.
#[must_use]
pub fn payload_for_transaction(input: Bytes) -> Bytes {
    let payload = ChaincodeProposalPayload { input, transient_map: BTreeMap::new() };
    payload.encode_to_vec().into()
}

/// The hash that ties endorsements to a proposal; `payload` is without transient data
/// ([`payload_for_transaction`]).
#[must_use]
pub fn proposal_hash(header: &ParsedHeader, payload: &[u8]) -> [u8; 32] {
    weft_crypto::sha256_parts([
        &header.channel_header_bytes,
        &header.signature_header_bytes,
        payload,
    ])
}

/// What a proposal to be made asks for.
#[derive(Debug, Clone)]
pub struct ProposalSpec {
    /// The channel; `None` for system chaincodes that belong to the peer as a whole.
    pub channel_id: Option<ChannelId>,
    /// The chaincode's name.
    pub chaincode: String,
    /// Function name and arguments.
    pub args: Vec<Bytes>,
    /// Data for the chaincode that is not part of the transaction.
    pub transient: BTreeMap<String, Bytes>,
    /// Whether this is the chaincode's required first call.
    pub is_init: bool,
    /// When the proposal is made.
    pub timestamp: Timestamp,
    /// The creator's nonce.
    pub nonce: Nonce,
}

/// A proposal and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltProposal {
    /// The id of the transaction to be.
    pub tx_id: TxId,
    /// The proposal.
    pub proposal: Proposal,
}

/// A signed proposal and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltSignedProposal {
    /// The id of the transaction to be.
    pub tx_id: TxId,
    /// The proposal, needed again to make the transaction.
    pub proposal: Proposal,
    /// What is sent to endorsers.
    pub signed: SignedProposal,
}

impl ProposalSpec {
    /// The proposal in `creator`'s name (a serialized identity), to be signed elsewhere.
    #[must_use]
    pub fn build(self, creator: Bytes) -> BuiltProposal {
        let tx_id = TxId::compute(&self.nonce, &creator);
        let id = ChaincodeId { name: self.chaincode, ..ChaincodeId::default() };
        let extension = ChaincodeHeaderExtension { chaincode_id: Some(id.clone()) };
        let channel_header = ChannelHeader {
            r#type: HeaderType::EndorserTransaction as i32,
            timestamp: Some(self.timestamp.into()),
            channel_id: self.channel_id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            tx_id: tx_id.to_string(),
            extension: extension.encode_to_vec().into(),
            ..ChannelHeader::default()
        };
        let signature_header =
            SignatureHeader { creator, nonce: Bytes::copy_from_slice(&self.nonce) };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let input = ChaincodeInput { args: self.args, is_init: self.is_init, ..Default::default() };
        let spec =
            ChaincodeSpec { chaincode_id: Some(id), input: Some(input), ..Default::default() };
        let invocation = ChaincodeInvocationSpec { chaincode_spec: Some(spec) };
        let payload = ChaincodeProposalPayload {
            input: invocation.encode_to_vec().into(),
            transient_map: self.transient,
        };
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            extension: Bytes::new(),
        };
        BuiltProposal { tx_id, proposal }
    }

    /// The proposal, signed in `signer`'s name.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(self, signer: &dyn Signer) -> Result<BuiltSignedProposal, SignError> {
        let BuiltProposal { tx_id, proposal } = self.build(signer.serialized_identity());
        let proposal_bytes: Bytes = proposal.encode_to_vec().into();
        let signature = signer.sign(&proposal_bytes)?;
        let signed = SignedProposal { proposal_bytes, signature };
        Ok(BuiltSignedProposal { tx_id, proposal, signed })
    }
}

/// What a simulation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// The encoded `rwset.TxReadWriteSet`.
    pub results: Bytes,
    /// The encoded `ChaincodeEvent`; empty for none.
    pub events: Bytes,
    /// What the chaincode answered.
    pub response: Response,
    /// The chaincode that ran, with the version of its definition.
    pub chaincode_id: ChaincodeId,
}

/// The bytes that an endorser signs, without its identity: an encoded `ProposalResponsePayload`.
#[must_use]
pub fn response_payload(proposal_hash: &[u8; 32], simulation: Simulation) -> Bytes {
    let action = ChaincodeAction {
        results: simulation.results,
        events: simulation.events,
        response: Some(simulation.response),
        chaincode_id: Some(simulation.chaincode_id),
    };
    let payload = ProposalResponsePayload {
        proposal_hash: Bytes::copy_from_slice(proposal_hash),
        extension: action.encode_to_vec().into(),
    };
    payload.encode_to_vec().into()
}

/// The bytes that an endorsement's signature covers: the response payload, then the endorser's
/// serialized identity (Fabric: protoutil/txutils.go).
#[must_use]
pub fn endorsed_bytes(response_payload: &[u8], endorser: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(response_payload.len() + endorser.len());
    out.extend_from_slice(response_payload);
    out.extend_from_slice(endorser);
    out
}

/// Endorses a simulation: the response to a proposal, signed in `endorser`'s name. Its status and
/// message are the chaincode's own.
///
/// # Errors
/// [`SignError`].
pub fn endorse(
    proposal: &ParsedProposal,
    simulation: Simulation,
    endorser: &dyn Signer,
) -> Result<ProposalResponse, SignError> {
    let response = simulation.response.clone();
    let payload = response_payload(&proposal.proposal_hash, simulation);
    let identity = endorser.serialized_identity();
    let signature = endorser.sign(&endorsed_bytes(&payload, &identity))?;
    Ok(ProposalResponse {
        version: 1,
        response: Some(response),
        payload,
        endorsement: Some(Endorsement { endorser: identity, signature }),
        ..ProposalResponse::default()
    })
}
