//! Taking in what others tell, and answering what they ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use weft_msp::Authenticated;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{AliveMessage, Envelope, GossipMessage, StateInfo};
use weft_types::MspId;

use super::bound::Shown;
use super::message::{self, PkiId, Time};
use super::scope::Scope;
use super::table::{ChannelState, InstalledChaincode, Member, Source};
use super::{Membership, REFRESH};
use crate::channel::Channel;

/// Chaincodes of one peer in one channel.
const MAX_CHAINCODES: usize = 1024;
/// Bytes of an endpoint.
const MAX_ENDPOINT: usize = 512;
/// Bytes of a sign of life, with the identity; and of what one peer has of a channel. They are kept
/// for each member.
const MAX_ALIVE: usize = 16 * 1024;
const MAX_STATE: usize = 128 * 1024;
/// Bytes of an envelope beside its parts.
const OVERHEAD: usize = 16;

/// The other side of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) id: PkiId,
    pub(crate) org: MspId,
    pub(crate) identity: Authenticated,
}

/// A message of another peer is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the first message does not say who is there")]
    NoConnect,
    #[error("the peer's id does not belong to its identity")]
    Id,
    #[error("the identity is not known here")]
    Stranger,
    #[error("the identity is not that of a peer")]
    Role,
    #[error("the signature does not hold")]
    Signature,
    #[error("the TLS certificate is not the one that was named")]
    Binding,
}

impl Membership {
    /// Checks the first message of a stream, of whose connection the other side has `shown` its
    /// certificate.
    pub(crate) fn authenticate(
        &self,
        envelope: &Envelope,
        shown: Shown,
    ) -> Result<Remote, Refusal> {
        let message = message::open(envelope).map_err(|_| Refusal::NoConnect)?;
        let Some(Content::Conn(connect)) = message.content else { return Err(Refusal::NoConnect) };
        if !shown.is(&connect.tls_cert_hash) {
            return Err(Refusal::Binding);
        }
        let id = PkiId::read(&connect.pki_id).ok_or(Refusal::Id)?;
        let identity = self.peer_identity(id, &connect.identity)?;
        let identity = identity.authenticate(&envelope.payload, &envelope.signature);
        let identity = identity.map_err(|_| Refusal::Signature)?;
        Ok(Remote { id, org: identity.claimed_msp_id().clone(), identity })
    }

    /// Takes in a message, which is what the envelope holds, and gives the answers to it. What is
    /// about private data is not for here.
    pub(crate) fn receive(
        &self,
        from: &Remote,
        envelope: &Envelope,
        message: GossipMessage,
    ) -> Vec<Envelope> {
        self.0.table.lock().heard(from.id, Instant::now());
        match message.content {
            Some(Content::AliveMsg(alive)) => self.take_alive(from, envelope, alive),
            Some(Content::StateInfo(state)) => self.take_state(envelope, state),
            Some(Content::MemReq(request)) => {
                if let Some(own) = &request.self_information {
                    self.take(from, own);
                }
                return vec![message::membership_response(self.visible_to(from))];
            }
            Some(Content::MemRes(response)) => {
                let told = response.alive.iter().take(self.0.options.max_members);
                told.for_each(|envelope| self.take(from, envelope));
            }
            Some(Content::StateSnapshot(snapshot)) => {
                let told = snapshot.elements.iter().take(self.0.options.max_members);
                told.for_each(|envelope| self.take(from, envelope));
            }
            Some(Content::StateInfoPullReq(request)) => {
                return self.snapshot(from, &request.channel_mac).into_iter().collect();
            }
            // Fabric's peers send more kinds than these; nothing follows from them here.
            _ => {}
        }
        Vec::new()
    }

    /// Takes a signed message about a peer, whoever passed it on.
    fn take(&self, from: &Remote, envelope: &Envelope) {
        match message::open(envelope) {
            Ok(GossipMessage { content: Some(Content::AliveMsg(alive)), .. }) => {
                self.take_alive(from, envelope, alive);
            }
            Ok(GossipMessage { content: Some(Content::StateInfo(state)), .. }) => {
                self.take_state(envelope, state);
            }
            _ => {}
        }
    }

    fn take_alive(&self, from: &Remote, envelope: &Envelope, alive: AliveMessage) {
        let Some(member) = alive.membership else { return };
        let Some(id) = PkiId::read(&member.pki_id) else { return };
        let time = Time::from(alive.timestamp.unwrap_or_default());
        let source = if id == from.id { Source::Own } else { Source::Hearsay };
        if id == self.id()
            || member.endpoint.is_empty()
            || member.endpoint.len() > MAX_ENDPOINT
            || envelope.payload.len() > MAX_ALIVE
            || !self.0.table.lock().is_news(id, source, time)
        {
            return;
        }
        // Fabric's peers leave the identity out once it is known.
        let known = self.0.table.lock().identity(id).map(|known| known.serialized().clone());
        let serialized = if alive.identity.is_empty() { known } else { Some(alive.identity) };
        let Some(serialized) = serialized else { return };
        let identity = match self.peer_identity(id, &serialized) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(endpoint = %member.endpoint, %error, "refused a sign of life");
                return;
            }
        };
        let Ok(identity) = identity.authenticate(&envelope.payload, &envelope.signature) else {
            weft_rpc::sampled!(
                warn,
                "sign of life",
                endpoint = %member.endpoint,
                "refused a sign of life: wrong signature"
            );
            return;
        };
        // This peer under a certificate that it had before, as others may still tell.
        if member.endpoint == self.0.options.endpoint
            && identity.claimed_msp_id() == self.0.deps.acl.msp_id()
        {
            return;
        }
        let member = Member {
            id,
            identity,
            endpoint: member.endpoint,
            alive: without_secret(envelope),
            is_self: false,
        };
        let endpoint = member.endpoint.clone();
        if self.0.table.lock().alive(member, time, source, Instant::now()) {
            tracing::info!(peer = ?id, %endpoint, "a peer is there");
            self.changed();
        }
    }

    fn take_state(&self, envelope: &Envelope, info: StateInfo) {
        let Some(id) = PkiId::read(&info.pki_id).filter(|id| *id != self.id()) else { return };
        let time = Time::from(info.timestamp.unwrap_or_default());
        let Some(channel) = self.named_channel(id, &info.channel_mac) else { return };
        let Some(member) = self.0.table.lock().member(id).cloned() else { return };
        let Some(identity) = Scope::of(&channel).peer(&member.identity) else { return };
        let properties = info.properties.unwrap_or_default();
        if !self.0.table.lock().is_state_news(id, channel.id(), time)
            || properties.chaincodes.len() > MAX_CHAINCODES
            || envelope.payload.len() > MAX_STATE
            || identity.verify(&envelope.payload, &envelope.signature).is_err()
        {
            return;
        }
        let chaincodes = properties.chaincodes.into_iter();
        let state = ChannelState {
            height: properties.ledger_height,
            chaincodes: chaincodes
                .map(|one| InstalledChaincode { name: one.name, version: one.version })
                .collect(),
            envelope: without_secret(envelope),
        };
        let mut table = self.0.table.lock();
        let changed = match properties.left_channel {
            true => table.left(id, channel.id()),
            false => table.state(id, channel.id(), time, state),
        };
        drop(table);
        if changed {
            self.changed();
        }
    }

    /// The channel that a peer's message is about.
    fn named_channel(&self, peer: PkiId, mac: &[u8]) -> Option<Arc<Channel>> {
        let channels = self.0.deps.channels.list();
        channels.into_iter().find(|channel| message::channel_mac(peer, channel.id()) == *mac)
    }

    /// Signs of life of the peers that another may know of: of its own organization, where that is
    /// this peer's, and of the channels that both are in.
    fn visible_to(&self, remote: &Remote) -> Vec<Envelope> {
        let common: Vec<_> =
            self.scopes().into_iter().filter(|scope| scope.includes(&remote.identity)).collect();
        let peers = self.peers().into_iter().filter(|peer| peer.id != remote.id);
        let is_visible = |peer: &Member| common.iter().any(|scope| scope.includes(&peer.identity));
        let visible = peers.filter(|peer| is_visible(peer)).map(|peer| peer.alive.clone());
        self.as_many(visible.collect())
    }

    /// What the peers of a channel have, for another peer of it.
    fn snapshot(&self, remote: &Remote, mac: &[u8]) -> Option<Envelope> {
        let channel = self.named_channel(remote.id, mac)?;
        if !Scope::of(&channel).includes(&remote.identity) {
            return None;
        }
        let own = self.own_state(&channel, REFRESH);
        let others = self.others_of(&channel).into_iter();
        let others = others.filter(|peer| peer.member.id != remote.id);
        let others = self.as_many(others.map(|peer| peer.state.envelope.clone()).collect());
        let own = own.iter().map(|state| state.envelope.clone());
        Some(message::state_snapshot(own.chain(others).collect()))
    }

    /// As many messages as fit into an answer. Where that is not all, the next answer begins with
    /// others.
    fn as_many(&self, mut messages: Vec<Envelope>) -> Vec<Envelope> {
        let mut room = self.0.options.max_message_bytes / 2;
        let turn = usize::try_from(self.0.sequence.load(Ordering::Relaxed)).unwrap_or(0);
        let begin = turn.checked_rem(messages.len()).unwrap_or(0);
        messages.rotate_left(begin);
        messages.retain(|message| {
            let size = message.payload.len() + message.signature.len() + OVERHEAD;
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        messages
    }

    /// Drops peers that are silent.
    pub(crate) fn expire(&self) {
        if self.0.table.lock().expire(Instant::now()) {
            self.changed();
        }
    }
}

/// The endpoint that Fabric's peers tell their own organization only stays with us.
fn without_secret(envelope: &Envelope) -> Envelope {
    Envelope { secret_envelope: None, ..envelope.clone() }
}
