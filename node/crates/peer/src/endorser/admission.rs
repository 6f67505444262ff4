//! Whether a proposal is acceptable, before anything is run for it
//! (Fabric: core/endorser/msgvalidation.go, core/handlers/auth/filter).

use std::sync::Arc;

use weft_msp::{Authenticated, IdentityError, MspManager};
use weft_protos::peer::SignedProposal;
use weft_types::Timestamp;
use weft_types::proposal::ParsedProposal;

use super::{EndorserError, EndorserParts};
use crate::acl::PEER_PROPOSE;
use crate::channel::Channel;
use crate::syscc;

/// A proposal that may be run.
pub(super) struct Admitted {
    /// As it came.
    pub(super) signed: SignedProposal,
    /// What it asks for.
    pub(super) proposal: ParsedProposal,
    /// Where; `None` for the peer as a whole.
    pub(super) channel: Option<Arc<Channel>>,
    /// Who asks, whose signature holds. What that entitles to is for the MSPs of each channel that the
    /// proposal reaches to say.
    pub(super) creator: Authenticated,
    /// When it came.
    pub(super) now: Timestamp,
}

impl Admitted {
    pub(super) fn channel_id(&self) -> &str {
        self.channel.as_ref().map_or("", |channel| channel.id().as_str())
    }
}

/// Checks a proposal, the cheap rules first.
pub(super) fn admit(
    parts: &EndorserParts,
    signed: SignedProposal,
    now: Timestamp,
) -> Result<Admitted, EndorserError> {
    let proposal = ParsedProposal::parse(signed.clone()).map_err(EndorserError::Proposal)?;
    check_time(parts, &proposal, now)?;
    let name = proposal.header.channel_id();
    let channel = match name {
        "" => None,
        name => Some(
            parts
                .channels
                .get_str(name)
                .ok_or_else(|| EndorserError::UnknownChannel { channel: name.to_owned() })?,
        ),
    };
    let Some(channel) = channel else {
        let creator = creator(&parts.acl.local(), &proposal, now)?;
        return Ok(Admitted { signed, proposal, channel: None, creator, now });
    };
    let bundle = channel.bundle();
    let creator = creator(bundle.msps(), &proposal, now)?;
    check_new(&channel, &proposal)?;
    // System chaincodes have resources of their own.
    if !syscc::is_system(&proposal.chaincode) {
        let allowed = parts.acl.check_authenticated(&bundle, PEER_PROPOSE, &creator, now);
        allowed.map_err(EndorserError::Access)?;
    }
    Ok(Admitted { signed, proposal, channel: Some(channel), creator, now })
}

fn check_time(
    parts: &EndorserParts,
    proposal: &ParsedProposal,
    now: Timestamp,
) -> Result<(), EndorserError> {
    let window = parts.time_window;
    // A time that is missing is one long ago.
    let stated = proposal.header.channel_header.timestamp.unwrap_or_default();
    let refused = |proposal: String| EndorserError::Time { proposal, peer: now, window };
    let at = Timestamp::try_from(stated).map_err(|e| refused(format!("({e})")))?;
    if at.saturating_add(window) < now || at > now.saturating_add(window) {
        return Err(refused(at.to_string()));
    }
    Ok(())
}

/// The creator, valid and with a good signature.
fn creator(
    msps: &MspManager,
    proposal: &ParsedProposal,
    now: Timestamp,
) -> Result<Authenticated, EndorserError> {
    let channel = || proposal.header.channel_id().to_owned();
    let creator = msps.deserialize_identity(proposal.header.creator()).map_err(|error| {
        weft_rpc::sampled!(warn, "creator", %error, "the creator of a proposal cannot be read");
        EndorserError::UnknownCreator { channel: channel() }
    })?;
    let denied =
        || EndorserError::Denied { channel: channel(), msp_id: creator.msp_id().to_string() };
    if let Err(error) = creator.validate(now) {
        weft_rpc::sampled!(warn, "creator", %error, %creator, "the creator of a proposal is not valid");
        return Err(match error {
            IdentityError::Expired { .. } => EndorserError::Expired,
            _ => denied(),
        });
    }
    creator.authenticate(&proposal.proposal_bytes, &proposal.signature).map_err(|error| {
        weft_rpc::sampled!(warn, "signature", %error, %creator, "the signature of a proposal is not good");
        denied()
    })
}

/// A transaction that is on the ledger need not be simulated again: its id cannot be used twice.
fn check_new(channel: &Channel, proposal: &ParsedProposal) -> Result<(), EndorserError> {
    let tx_id = proposal.tx_id.to_string();
    let found = channel.ledger().blocks().contains_transaction(&tx_id);
    if found.map_err(EndorserError::Ledger)? {
        let creator = hex::encode(proposal.header.creator());
        return Err(EndorserError::Duplicate { tx_id, creator });
    }
    Ok(())
}
