//! What the gateway reads of a proposal. Whether the proposal is sound is for its endorsers.

use weft_protos::common::{ChannelHeader, Header};
use weft_protos::ext::{DecodeError, decode_bounded as decode};
use weft_protos::peer::{
    ChaincodeInvocationSpec, ChaincodeProposalPayload, Proposal, SignedProposal,
};

/// A proposal, as far as the gateway has to know it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The proposal.
    pub proposal: Proposal,
    /// The channel.
    pub channel: String,
    /// The chaincode that is called.
    pub chaincode: String,
    /// Whether there is transient data, which only those may see whom the client trusts.
    pub has_transient: bool,
}

/// A proposal that cannot be read. The texts are Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is none.
    #[error("a signed proposal is required")]
    Missing,
    /// A part of it is malformed.
    #[error("error unmarshalling {}: {}", .0.what, .0.source)]
    Decode(#[source] DecodeError),
    /// It names no channel.
    #[error("no channel id provided")]
    NoChannel,
    /// It says nothing of a chaincode.
    #[error("no chaincode spec is provided, channel id [{channel}]")]
    NoSpec {
        /// The channel.
        channel: String,
    },
    /// It does not identify a chaincode.
    #[error("no chaincode id is provided, channel id [{channel}]")]
    NoId {
        /// The channel.
        channel: String,
    },
    /// It does not name a chaincode.
    #[error("no chaincode name is provided, channel id [{channel}]")]
    NoName {
        /// The channel.
        channel: String,
    },
}

impl Call {
    /// Reads a signed proposal.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(signed: &SignedProposal) -> Result<Self, RequestError> {
        if signed.proposal_bytes.is_empty() {
            return Err(RequestError::Missing);
        }
        let malformed = RequestError::Decode;
        let proposal: Proposal =
            decode("Proposal", signed.proposal_bytes.clone()).map_err(malformed)?;
        let header: Header = decode("Header", proposal.header.clone()).map_err(malformed)?;
        let header: ChannelHeader =
            decode("ChannelHeader", header.channel_header).map_err(malformed)?;
        let payload: ChaincodeProposalPayload =
            decode("ChaincodeProposalPayload", proposal.payload.clone()).map_err(malformed)?;
        let spec: ChaincodeInvocationSpec =
            decode("ChaincodeInvocationSpec", payload.input).map_err(malformed)?;
        let channel = header.channel_id;
        if channel.is_empty() {
            return Err(RequestError::NoChannel);
        }
        let Some(spec) = spec.chaincode_spec else { return Err(RequestError::NoSpec { channel }) };
        let Some(id) = spec.chaincode_id else { return Err(RequestError::NoId { channel }) };
        if id.name.is_empty() {
            return Err(RequestError::NoName { channel });
        }
        let has_transient = !payload.transient_map.is_empty();
        Ok(Self { proposal, channel, chaincode: id.name, has_transient })
    }
}
