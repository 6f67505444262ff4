//! Who takes a slot of the gateway: the organization whose client has signed the call, once its
//! signature was verified. Whoever has proved nothing takes one of the few slots for strangers, and
//! is answered with what is wrong.

use std::time::SystemTime;

use bytes::Bytes;
use tonic::{Request, Status};
use weft_protos::common::{Envelope, Header};
use weft_protos::ext::decode_bounded;
use weft_protos::peer::{Proposal, SignedProposal};
use weft_rpc::budget::{Call, Slot};
use weft_types::{ParsedEnvelope, ParsedHeader, Timestamp};

use super::Gateway;
use crate::caller;

/// Lets one call in.
pub(super) struct Door<'a> {
    gateway: &'a Gateway,
    method: &'static str,
    call: Option<Call>,
}

impl Gateway {
    pub(super) fn door<T>(&self, method: &'static str, request: &Request<T>) -> Door<'_> {
        Door { gateway: self, method, call: Call::of(request).cloned() }
    }

    /// The identity that has signed a proposal, verified.
    pub(super) fn proposer(&self, signed: &SignedProposal) -> Option<Bytes> {
        let proposal: Proposal = decode_bounded("proposal", signed.proposal_bytes.clone()).ok()?;
        let header: Header = decode_bounded("header", proposal.header).ok()?;
        let header = ParsedHeader::from_header(header).ok()?;
        self.signer(&header, &signed.proposal_bytes, &signed.signature)
    }

    /// The identity that has signed a transaction, verified.
    pub(super) fn submitter(&self, envelope: &Envelope) -> Option<Bytes> {
        let parsed = ParsedEnvelope::from_envelope(envelope.clone()).ok()?;
        self.signer(parsed.header(), &parsed.payload_bytes, &parsed.signature)
    }

    /// The creator that a header names, as a valid identity of the channel that it names, which has
    /// signed `data`.
    fn signer(&self, header: &ParsedHeader, data: &[u8], signature: &[u8]) -> Option<Bytes> {
        let channel = self.inner.deps.channels.get_str(header.channel_id())?;
        let bundle = channel.bundle();
        let creator = bundle.msps().deserialize_identity(header.creator()).ok()?;
        creator.validate(Timestamp::from_system_time(SystemTime::now())).ok()?;
        creator.verify(data, signature).ok()?;
        Some(header.creator().clone())
    }
}

impl Door<'_> {
    /// Takes a slot for whoever was found to have signed.
    pub(super) fn enter(&self, signer: Option<&Bytes>) -> Result<Slot, Status> {
        let holder = caller::of(self.call.as_ref(), signer)?;
        self.gateway.slots.enter(&holder).map_err(|full| {
            let (method, limit, whose) = (self.method, full.limit, full.whose);
            Status::resource_exhausted(format!(
                "too many requests for /gateway.Gateway/{method}, exceeding concurrency limit ({limit}): {whose}"
            ))
        })
    }
}
