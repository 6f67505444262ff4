//! What a proposal tells a contract: creator, time and transient data.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::{common, msp, peer};

use crate::{Creator, Timestamp};

/// The parts of a proposal that contracts ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub(crate) creator: Creator,
    pub(crate) timestamp: Timestamp,
    pub(crate) transient: BTreeMap<String, Bytes>,
}

/// Takes a proposal apart. Calls that come without one have no creator.
pub(crate) fn parse(signed: Option<&peer::SignedProposal>) -> Result<Parts, DecodeError> {
    let Some(signed) = signed else { return Ok(Parts::default()) };
    let proposal: peer::Proposal = decode("proposal", signed.proposal_bytes.clone())?;
    let header: common::Header = decode("header", proposal.header)?;
    let channel: common::ChannelHeader = decode("channel header", header.channel_header)?;
    let signature: common::SignatureHeader = decode("signature header", header.signature_header)?;
    let identity: msp::SerializedIdentity = decode("creator", signature.creator)?;
    let payload: peer::ChaincodeProposalPayload = decode("proposal payload", proposal.payload)?;
    Ok(Parts {
        creator: Creator::new(identity.mspid, identity.id_bytes),
        timestamp: channel.timestamp.map(Timestamp::from_wire).unwrap_or_default(),
        transient: payload.transient_map,
    })
}
