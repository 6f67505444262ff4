//! Taking in what others tell, and answering what they ask.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use weft_msp::{Identity, Principal, PrincipalRole};
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{AliveMessage, Envelope, GossipMessage, StateInfo};
use weft_types::MspId;

use super::message::{self, PkiId, Time};
use super::table::{ChannelState, InstalledChaincode, Member};
use super::{Membership, REFRESH, now};
use crate::channel::Channel;

/// Chaincodes of one peer in one channel.
const MAX_CHAINCODES: usize = 1024;
/// Bytes of an endpoint.
const MAX_ENDPOINT: usize = 512;

/// The other side of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) id: PkiId,
    pub(crate) org: MspId,
    /// Its encoded `msp.SerializedIdentity`.
    pub(crate) identity: Bytes,
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
    /// Checks the first message of a stream. `tls` is the hash of the certificate that the other
    /// side showed.
    pub(crate) fn authenticate(
        &self,
        envelope: &Envelope,
        tls: Option<[u8; 32]>,
    ) -> Result<Remote, Refusal> {
        let message = message::open(envelope).map_err(|_| Refusal::NoConnect)?;
        let Some(Content::Conn(connect)) = message.content else { return Err(Refusal::NoConnect) };
        if tls.is_some_and(|shown| connect.tls_cert_hash != shown[..]) {
            return Err(Refusal::Binding);
        }
        let id = PkiId::read(&connect.pki_id).ok_or(Refusal::Id)?;
        let identity = self.peer_identity(id, &connect.identity)?;
        identity.verify(&envelope.payload, &envelope.signature).map_err(|_| Refusal::Signature)?;
        let org = identity.msp_id().clone();
        Ok(Remote { id, org, identity: identity.serialized().clone() })
    }

    /// The identity of a peer of this network, which holds right now.
    pub(super) fn peer_identity(
        &self,
        id: PkiId,
        serialized: &Bytes,
    ) -> Result<Arc<Identity>, Refusal> {
        if PkiId::of(serialized).ok() != Some(id) {
            return Err(Refusal::Id);
        }
        let local = self.0.deps.acl.local();
        let channels = self.0.deps.channels.list();
        let bundles: Vec<_> = channels.iter().map(|channel| channel.bundle()).collect();
        let managers =
            std::iter::once(&*local).chain(bundles.iter().map(|bundle| &**bundle.msps()));
        let mut refusal = Refusal::Stranger;
        for manager in managers {
            let Ok(identity) = manager.deserialize_identity(serialized) else { continue };
            let roles =
                manager.get(identity.msp_id().as_str()).is_some_and(|msp| msp.roles_enabled());
            let role = if roles { PrincipalRole::Peer } else { PrincipalRole::Member };
            let principal = Principal::Role { msp_id: identity.msp_id().to_string(), role };
            match principal.check(&identity, now()) {
                Ok(()) => return Ok(identity),
                Err(_) => refusal = Refusal::Role,
            }
        }
        Err(refusal)
    }

    /// Takes in a message, which is what the envelope holds, and gives the answers to it. What is
    /// about private data is not for here.
    pub(crate) fn receive(
        &self,
        from: &Remote,
        envelope: &Envelope,
        message: GossipMessage,
    ) -> Vec<Envelope> {
        match message.content {
            Some(Content::AliveMsg(alive)) => self.take_alive(envelope, alive),
            Some(Content::StateInfo(state)) => self.take_state(envelope, state),
            Some(Content::MemReq(request)) => {
                if let Some(own) = &request.self_information {
                    self.take(own);
                }
                return vec![message::membership_response(self.visible_to(from))];
            }
            Some(Content::MemRes(response)) => {
                response.alive.iter().take(self.0.options.max_members).for_each(|e| self.take(e));
            }
            Some(Content::StateSnapshot(snapshot)) => {
                snapshot
                    .elements
                    .iter()
                    .take(self.0.options.max_members)
                    .for_each(|e| self.take(e));
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
    fn take(&self, envelope: &Envelope) {
        match message::open(envelope) {
            Ok(GossipMessage { content: Some(Content::AliveMsg(alive)), .. }) => {
                self.take_alive(envelope, alive);
            }
            Ok(GossipMessage { content: Some(Content::StateInfo(state)), .. }) => {
                self.take_state(envelope, state);
            }
            _ => {}
        }
    }

    fn take_alive(&self, envelope: &Envelope, alive: AliveMessage) {
        let Some(member) = alive.membership else { return };
        let Some(id) = PkiId::read(&member.pki_id) else { return };
        let time = Time::from(alive.timestamp.unwrap_or_default());
        if id == self.id()
            || member.endpoint.is_empty()
            || member.endpoint.len() > MAX_ENDPOINT
            || !self.0.table.lock().is_news(id, time)
        {
            return;
        }
        // Fabric's peers leave the identity out once it is known.
        let known = self.0.table.lock().member(id).map(|known| known.identity.serialized().clone());
        let serialized = if alive.identity.is_empty() { known } else { Some(alive.identity) };
        let Some(serialized) = serialized else { return };
        let identity = match self.peer_identity(id, &serialized) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(endpoint = %member.endpoint, %error, "refused a sign of life");
                return;
            }
        };
        if identity.verify(&envelope.payload, &envelope.signature).is_err() {
            weft_rpc::sampled!(
                warn,
                "sign of life",
                endpoint = %member.endpoint,
                "refused a sign of life: wrong signature"
            );
            return;
        }
        // This peer under a certificate that it had before, as others may still tell.
        if member.endpoint == self.0.options.endpoint
            && identity.msp_id() == self.0.deps.acl.msp_id()
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
        if self.0.table.lock().alive(member, time, Instant::now()) {
            tracing::info!(peer = ?id, %endpoint, "a peer is there");
            self.changed();
        }
    }

    fn take_state(&self, envelope: &Envelope, info: StateInfo) {
        let Some(id) = PkiId::read(&info.pki_id).filter(|id| *id != self.id()) else { return };
        let time = Time::from(info.timestamp.unwrap_or_default());
        let Some(channel) = self.named_channel(id, &info.channel_mac) else { return };
        let Some(member) = self.0.table.lock().member(id).cloned() else { return };
        let properties = info.properties.unwrap_or_default();
        if !self.0.table.lock().is_state_news(id, channel.id(), time)
            || properties.chaincodes.len() > MAX_CHAINCODES
            || member.identity.verify(&envelope.payload, &envelope.signature).is_err()
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

    /// Signs of life of the peers that another may know of.
    fn visible_to(&self, remote: &Remote) -> Vec<Envelope> {
        let peers = self.peers().into_iter().filter(|peer| peer.id != remote.id);
        let visible = peers.filter(|peer| self.acquainted(&remote.org, peer.identity.msp_id()));
        visible.map(|peer| peer.alive.clone()).collect()
    }

    /// What the peers of a channel have, for another peer of it.
    fn snapshot(&self, remote: &Remote, mac: &[u8]) -> Option<Envelope> {
        let channel = self.named_channel(remote.id, mac)?;
        let bundle = channel.bundle();
        bundle.application()?.org_of(&remote.org)?;
        let own = self.own_state(&channel, REFRESH);
        let mut elements: Vec<_> = own.iter().map(|state| state.envelope.clone()).collect();
        let table = self.0.table.lock();
        let others = table.peers_of(channel.id()).filter(|peer| peer.member.id != remote.id);
        elements.extend(others.map(|peer| peer.state.envelope.clone()));
        drop(table);
        Some(message::state_snapshot(elements))
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
