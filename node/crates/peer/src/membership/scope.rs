//! Under whose MSPs another peer counts.
//!
//! An MSP id stands for whom one channel's configuration says, and can stand for others in the next
//! one. So that somebody is a peer is known within a scope: this peer's own organization, or one
//! channel. What is told or given in a channel goes to peers of that channel's scope.

use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_msp::{Authenticated, Identity, Msp, MspManager};
use weft_types::MspId;

use super::message::PkiId;
use super::news::Refusal;
use super::{Membership, now};
use crate::acl::{channel_peer, check_peer};
use crate::channel::Channel;

/// Some MSPs.
pub(super) enum Scope {
    /// This peer's own organization.
    Own(Arc<MspManager>),
    /// A channel.
    Channel(Arc<Bundle>),
}

impl Scope {
    pub(super) fn of(channel: &Channel) -> Self {
        Self::Channel(channel.bundle())
    }

    fn msps(&self) -> &MspManager {
        match self {
            Self::Own(msps) => msps,
            Self::Channel(bundle) => bundle.msps(),
        }
    }

    /// The definition of an organization.
    pub(super) fn msp(&self, org: &MspId) -> Option<&Msp> {
        self.msps().get(org.as_str()).map(|msp| &**msp)
    }

    /// Reads the identity of a peer, which holds right now, whatever its organization does here.
    pub(super) fn read_peer(
        &self,
        id: PkiId,
        serialized: &Bytes,
    ) -> Result<Arc<Identity>, Refusal> {
        if PkiId::of(serialized).ok() != Some(id) {
            return Err(Refusal::Id);
        }
        let identity =
            self.msps().deserialize_identity(serialized).map_err(|_| Refusal::Stranger)?;
        check_peer(self.msps(), &identity, now()).map_err(|_| Refusal::Role)?;
        Ok(identity)
    }

    /// Somebody as a peer of an organization that transacts here, which holds right now.
    pub(super) fn peer(&self, who: &Authenticated) -> Option<Arc<Identity>> {
        match self {
            Self::Own(msps) => {
                let identity = msps.identity_of(who).ok()?;
                check_peer(msps, &identity, now()).ok()?;
                Some(identity)
            }
            Self::Channel(bundle) => channel_peer(bundle, who, now()),
        }
    }

    /// Whether somebody may know what is known here.
    pub(super) fn includes(&self, who: &Authenticated) -> bool {
        self.peer(who).is_some()
    }
}

impl Membership {
    /// All scopes of this peer.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let channels = self.0.deps.channels.list();
        let channels = channels.iter().map(|channel| Scope::of(channel));
        std::iter::once(Scope::Own(self.0.deps.acl.local())).chain(channels).collect()
    }

    /// The identity of a peer of this network, which holds right now in some scope.
    pub(super) fn peer_identity(
        &self,
        id: PkiId,
        serialized: &Bytes,
    ) -> Result<Arc<Identity>, Refusal> {
        let mut refusal = Refusal::Stranger;
        for scope in self.scopes() {
            match scope.read_peer(id, serialized) {
                Err(Refusal::Stranger) => {}
                Err(other) => refusal = other,
                found => return found,
            }
        }
        Err(refusal)
    }
}
