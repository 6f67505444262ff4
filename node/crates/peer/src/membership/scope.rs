//! Under whose MSPs another peer counts.
//!
//! An MSP id stands for whom one channel's configuration says, and can stand for others in the next
//! one. So that somebody is a peer is known within a scope: this peer's own organization, or one
//! channel. What is told or given in a channel goes to peers of that channel's scope.

use std::sync::Arc;

use bytes::Bytes;
use weft_config::Bundle;
use weft_msp::{Identity, Msp, MspManager, Principal, PrincipalRole};
use weft_types::MspId;

use super::message::PkiId;
use super::news::{Refusal, Remote};
use super::{Member, Membership, now};
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

    /// The identity of a peer, which holds right now, whatever its organization does here.
    pub(super) fn peer(&self, id: PkiId, serialized: &Bytes) -> Result<Arc<Identity>, Refusal> {
        if PkiId::of(serialized).ok() != Some(id) {
            return Err(Refusal::Id);
        }
        let identity =
            self.msps().deserialize_identity(serialized).map_err(|_| Refusal::Stranger)?;
        let roles = self.msp(identity.msp_id()).is_some_and(Msp::roles_enabled);
        let role = if roles { PrincipalRole::Peer } else { PrincipalRole::Member };
        let principal = Principal::Role { msp_id: identity.msp_id().to_string(), role };
        principal.check(&identity, now()).map_err(|_| Refusal::Role)?;
        Ok(identity)
    }

    /// As [`peer`](Self::peer), of an organization that transacts here.
    pub(super) fn participant(
        &self,
        id: PkiId,
        serialized: &Bytes,
    ) -> Result<Arc<Identity>, Refusal> {
        let identity = self.peer(id, serialized)?;
        match self.has_org(identity.msp_id()) {
            true => Ok(identity),
            false => Err(Refusal::Stranger),
        }
    }

    fn has_org(&self, org: &MspId) -> bool {
        match self {
            Self::Own(msps) => msps.get(org.as_str()).is_some(),
            Self::Channel(bundle) => {
                bundle.application().is_some_and(|all| all.org_of(org).is_some())
            }
        }
    }

    /// Whether another peer may know what is known here.
    pub(super) fn includes(&self, remote: &Remote) -> bool {
        self.participant(remote.id, &remote.identity).is_ok()
    }

    /// Whether a member belongs here.
    pub(super) fn includes_member(&self, member: &Member) -> bool {
        self.participant(member.id, member.identity.serialized()).is_ok()
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
            match scope.peer(id, serialized) {
                Err(Refusal::Stranger) => {}
                Err(other) => refusal = other,
                found => return found,
            }
        }
        Err(refusal)
    }
}
