//! What this peer says of itself, and as whom.
//!
//! A peer's id in the membership is the hash of its certificate: with a renewed certificate it goes
//! on under another id. It then begins its streams anew and signs anew what it told; the others put
//! the new member in the place of the one at the same endpoint (see `table`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use weft_msp::SigningIdentity;
use weft_protos::gossip::Envelope;
use weft_rpc::tls::ReloadingTls;
use weft_types::{ChannelId, SignError, Signer as _};

use super::bound::hash_of;
use super::message::{self, PkiId, Time};
use super::table::{ChannelState, Member};
use super::{Deps, Membership, MembershipError, Options};

/// What this peer says of itself.
pub(super) struct Own {
    speaker: Speaker,
    /// The identity that was last looked at; not that of `speaker` when it cannot be used.
    seen: Arc<SigningIdentity>,
    pub(super) member: Arc<Member>,
    pub(super) states: BTreeMap<ChannelId, OwnState>,
}

pub(super) struct OwnState {
    pub(super) state: Arc<ChannelState>,
    /// When the state was signed.
    pub(super) signed: Instant,
    /// When and at which height the chaincodes were looked up.
    pub(super) checked: Instant,
    pub(super) height: u64,
}

/// As whom this peer speaks: an id and what signs for it, of one and the same certificate.
#[derive(Clone)]
pub(super) struct Speaker {
    pub(super) id: PkiId,
    pub(super) signer: Arc<SigningIdentity>,
}

impl Own {
    pub(super) fn new(deps: &Deps, options: &Options, time: Time) -> Result<Self, MembershipError> {
        let signer = deps.identity.current();
        let (speaker, member) = introduce(deps, options, Arc::clone(&signer), time)?;
        Ok(Self { speaker, seen: signer, member: Arc::new(member), states: BTreeMap::new() })
    }
}

/// The peer as a member under the identity of `signer`.
fn introduce(
    deps: &Deps,
    options: &Options,
    signer: Arc<SigningIdentity>,
    time: Time,
) -> Result<(Speaker, Member), MembershipError> {
    let serialized = signer.serialized_identity();
    let id = PkiId::of(&serialized).map_err(MembershipError::Decode)?;
    let identity = signer.authenticated();
    deps.acl.local().identity_of(&identity).map_err(MembershipError::Identity)?;
    let alive = message::alive(&*signer, id, &options.endpoint, time);
    let alive = alive.map_err(MembershipError::Sign)?;
    let endpoint = options.endpoint.clone();
    let member = Member { id, identity, endpoint, alive, is_self: true };
    Ok((Speaker { id, signer }, member))
}

impl Membership {
    /// This peer.
    #[must_use]
    pub fn own(&self) -> Arc<Member> {
        Arc::clone(&self.0.own.lock().member)
    }

    pub(super) fn speaker(&self) -> Speaker {
        self.0.own.lock().speaker.clone()
    }

    pub(super) fn id(&self) -> PkiId {
        self.0.own.lock().speaker.id
    }

    /// Goes on under a renewed identity, where there is one. What was told before is told again,
    /// signed by it.
    pub(super) fn follow_identity(&self) {
        let current = self.0.deps.identity.current();
        if Arc::ptr_eq(&self.0.own.lock().seen, &current) {
            return;
        }
        let time = self.next_time();
        let introduced = introduce(&self.0.deps, &self.0.options, Arc::clone(&current), time);
        let mut own = self.0.own.lock();
        own.seen = current;
        match introduced {
            Ok((speaker, member)) => {
                tracing::info!(peer = ?speaker.id, before = ?own.speaker.id, "tells of a renewed identity");
                own.speaker = speaker;
                own.member = Arc::new(member);
                own.states.clear();
            }
            Err(error) => {
                tracing::error!(%error, "the membership goes on with the identity before");
                return;
            }
        }
        drop(own);
        self.changed();
        self.0.published.send_modify(|count| *count += 1);
    }

    /// Remembers what was signed of a channel; what an identity before signed is not.
    pub(super) fn store_own(
        &self,
        channel: &ChannelId,
        signed_by: PkiId,
        state: Arc<ChannelState>,
    ) -> Option<Arc<ChannelState>> {
        let (now, height) = (Instant::now(), state.height);
        let mut own = self.0.own.lock();
        if own.speaker.id != signed_by {
            return None;
        }
        let entry = OwnState { state, signed: now, checked: now, height };
        own.states.insert(channel.clone(), entry).map(|before| before.state)
    }

    /// Signs a new sign of life of this peer.
    pub(super) fn renew(&self) -> Envelope {
        let (speaker, time) = (self.speaker(), self.next_time());
        let alive = message::alive(&*speaker.signer, speaker.id, &self.0.options.endpoint, time);
        let mut own = self.0.own.lock();
        match alive {
            Ok(alive) if own.speaker.id == speaker.id => {
                let member = Member { alive: alive.clone(), ..Member::clone(&own.member) };
                own.member = Arc::new(member);
                alive
            }
            Ok(_) => own.member.alive.clone(),
            Err(error) => {
                tracing::error!(%error, "failed to sign what this peer tells of itself");
                own.member.alive.clone()
            }
        }
    }

    /// The first message of a stream that another peer has opened.
    pub(super) fn hello(&self) -> Result<Envelope, SignError> {
        let speaker = self.speaker();
        let shows = self.0.deps.tls.as_ref().and_then(ReloadingTls::identity);
        message::connect(&*speaker.signer, speaker.id, hash_of(shows.as_ref()))
    }
}
