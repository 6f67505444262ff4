//! What other peers push and ask, judged and answered.
//!
//! Everything here is hostile until it is checked: sizes first, then who sends it, then what it is
//! about. A refused push is answered with the reason, so that the sender goes on to another peer;
//! a question for what the other may not have is answered as if it were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;
use weft_ledger::kv::KvError;
use weft_ledger::{BlockStoreError, Ledger};
use weft_msp::Authenticated;
use weft_protos::ext::decode_bounded;
use weft_protos::gossip::gossip_message::Content;
use weft_protos::gossip::{
    Envelope, GossipMessage, PrivateDataMessage, PrivatePayload, PvtDataElement,
    RemotePvtDataRequest,
};
use weft_protos::kvrwset::KvrwSet;
use weft_types::{MspId, TxId, TxIdError};

use super::plan;
use crate::channel::{Channel, report};
use crate::commit::private::{self, Kept};
use crate::lifecycle::DefinitionError;
use crate::membership::news::Remote;
use crate::membership::scope::Scope;
use crate::membership::{Membership, message};
use crate::private::collections;
use crate::private::exchange::Digest;

/// Digests looked at in one question.
const MAX_DIGESTS: usize = 512;
/// Bytes of one answer; a single value can be larger, and then is all of it.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// What a peer says to values that come after their transaction. It happens where one peer is slower
/// to take them than the orderers are.
pub(super) const COMMITTED: &str = "the transaction is committed";

/// Why pushed values are not taken.
#[derive(Debug, thiserror::Error)]
enum PushRefusal {
    #[error("the writes have {size} bytes, more than {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the transaction's id is not one: {0}")]
    TxId(#[source] TxIdError),
    #[error("the writes cannot be read")]
    Writes,
    #[error("the channel is not known, or the sender does not belong to it")]
    Channel,
    #[error("collection {name} of chaincode {chaincode} is not known")]
    Collection { chaincode: String, name: String },
    #[error("the collection cannot be looked up")]
    Definition(#[source] DefinitionError),
    #[error("this peer's organization is not a member of the collection")]
    NotMember,
    #[error("{COMMITTED}")]
    Committed,
    #[error("the sender's organization gave too many different writes of one transaction")]
    TooMany,
    #[error("the ledger cannot be read")]
    Ledger(#[source] BlockStoreError),
    #[error("the transient store failed")]
    Store(#[source] KvError),
}

impl PushRefusal {
    /// Whether a block that is not here yet can make it good.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Collection { .. } | Self::NotMember)
    }
}

/// Writes down why values are not taken, and gives the words for the other side.
fn tell(remote: &Remote, refusal: &PushRefusal) -> String {
    let (peer, org, reason) = (remote.id, &remote.org, report(refusal));
    match refusal {
        PushRefusal::Committed => {
            tracing::debug!(?peer, %org, %reason, "did not take private data");
        }
        _ => {
            weft_rpc::sampled!(warn, "private data", ?peer, %org, %reason, "refused private data");
        }
    }
    refusal.to_string()
}

impl Membership {
    /// Answers what another peer pushes or asks for; [`super::is_question`] tells which messages
    /// are meant. `None` when it is none of them, or the peer is ending.
    pub(in crate::membership) async fn answer_private(
        &self,
        remote: &Remote,
        message: GossipMessage,
    ) -> Option<Envelope> {
        let GossipMessage { nonce, channel, content, .. } = message;
        match content? {
            Content::PrivateData(pushed) => {
                let taken = self.take_in_time(remote, &channel, pushed).await?;
                let error = taken.err().map(|refusal| tell(remote, &refusal));
                Some(message::acknowledgement(nonce, error.unwrap_or_default()))
            }
            Content::PrivateReq(request) => {
                let name = channel.clone();
                let look_up =
                    move |it: &Self, remote: &Remote| it.look_up(remote, &channel, request);
                let elements = self.in_turn(remote, look_up).await?;
                Some(message::private_response(nonce, name, elements))
            }
            _ => None,
        }
    }

    /// Does what reads and writes the store, which is on disk, when it is its turn. `None` when the
    /// peer is ending.
    async fn in_turn<T: Send + 'static>(
        &self,
        remote: &Remote,
        work: impl FnOnce(&Self, &Remote) -> T + Send + 'static,
    ) -> Option<T> {
        let _place = self.0.private.answering.acquire().await.ok()?;
        let (membership, remote) = (self.clone(), remote.clone());
        tokio::task::spawn_blocking(move || work(&membership, &remote)).await.ok()
    }

    /// Takes pushed values. A peer that endorses as soon as a collection is defined can be ahead of
    /// this one by the block that does it; then they are looked at again when the block is here.
    async fn take_in_time(
        &self,
        remote: &Remote,
        channel: &Bytes,
        pushed: PrivateDataMessage,
    ) -> Option<Result<(), PushRefusal>> {
        let payload = pushed.payload.unwrap_or_default();
        let height = payload.private_sim_height;
        let ahead = self.common_channel(remote, channel).filter(|here| here.height() < height);
        let again = (channel.clone(), payload.clone());
        let take = |(channel, payload): (Bytes, PrivatePayload)| {
            move |it: &Self, remote: &Remote| it.take_pushed(remote, &channel, payload)
        };
        let taken = self.in_turn(remote, take((channel.clone(), payload))).await?;
        match (ahead, taken) {
            (Some(here), Err(refusal)) if refusal.may_pass() => {
                let limit = self.0.options.private_data.push_timeout / 3;
                let mut heights = here.height_watch();
                let _ = timeout(limit, heights.wait_for(|at| *at >= height)).await;
                self.in_turn(remote, take(again)).await
            }
            (_, taken) => Some(taken),
        }
    }

    /// Puts pushed values into the transient store.
    fn take_pushed(
        &self,
        remote: &Remote,
        channel: &[u8],
        payload: PrivatePayload,
    ) -> Result<(), PushRefusal> {
        let (writes, limit) = (payload.private_rwset, self.0.options.private_data.max_bytes);
        if writes.len() > limit {
            return Err(PushRefusal::TooLarge { size: writes.len(), limit });
        }
        let tx_id = TxId::from_hex(&payload.tx_id).map_err(PushRefusal::TxId)?.to_string();
        let set: KvrwSet =
            decode_bounded("private writes", writes.clone()).map_err(|_| PushRefusal::Writes)?;
        if set.writes.is_empty() && set.metadata_writes.is_empty() {
            return Err(PushRefusal::Writes);
        }
        let channel = self.common_channel(remote, channel).ok_or(PushRefusal::Channel)?;
        let (chaincode, name) = (payload.namespace, payload.collection_name);
        let state = channel.ledger().state();
        let found = collections::find(&state, &channel.bundle(), &chaincode, &name);
        let Some(collection) = found.map_err(PushRefusal::Definition)? else {
            return Err(PushRefusal::Collection {
                chaincode: shortened(&chaincode),
                name: shortened(&name),
            });
        };
        if !collection.admits(channel.bundle().msps(), &self.own().identity) {
            return Err(PushRefusal::NotMember);
        }
        let slot = private::Slot { tx_id: &tx_id, namespace: &chaincode, collection: &name };
        self.keep(channel.ledger(), slot, writes, &remote.org)
    }

    fn keep(
        &self,
        ledger: &Ledger,
        slot: private::Slot<'_>,
        writes: Bytes,
        sender: &MspId,
    ) -> Result<(), PushRefusal> {
        let _keeping = self.0.private.keeping.lock();
        let private::Slot { tx_id, namespace, collection } = slot;
        if let Some(at) = ledger.blocks().transaction(tx_id).map_err(PushRefusal::Ledger)? {
            let stored = ledger.private_writes(namespace, collection, at.block, at.index);
            let stored = stored.map_err(PushRefusal::Store)?;
            // It was quicker to ask for them.
            return if stored == Some(writes) { Ok(()) } else { Err(PushRefusal::Committed) };
        }
        match private::keep_pushed(ledger, slot, &writes, sender).map_err(PushRefusal::Store)? {
            Kept::Kept | Kept::Known => Ok(()),
            Kept::TooMany => Err(PushRefusal::TooMany),
        }
    }

    /// What another peer asks for and may have.
    fn look_up(
        &self,
        remote: &Remote,
        channel: &[u8],
        request: RemotePvtDataRequest,
    ) -> Vec<PvtDataElement> {
        let Some(channel) = self.common_channel(remote, channel) else { return Vec::new() };
        let mut may_have =
            MayHave { channel: &channel, who: &remote.identity, known: BTreeMap::new() };
        let (mut elements, mut room) = (Vec::new(), ANSWER_BYTES);
        let asked = request.digests.into_iter().take(MAX_DIGESTS).filter_map(plan::digest);
        // Once each: an answer is no larger for being asked for again and again.
        let asked: BTreeSet<_> = asked.collect();
        for asked in asked {
            if !may_have.ask(&asked.namespace, &asked.collection) {
                continue;
            }
            let payload = payload(&channel, &asked);
            let size: usize = payload.iter().map(Bytes::len).sum();
            if payload.is_empty() {
                continue;
            }
            if !elements.is_empty() && size > room {
                break;
            }
            room = room.saturating_sub(size);
            elements.push(PvtDataElement { digest: Some(plan::encode(asked)), payload });
        }
        elements
    }

    /// The channel of a message, if this peer has it and the other is a peer of it right now.
    fn common_channel(&self, remote: &Remote, name: &[u8]) -> Option<Arc<Channel>> {
        let channel = self.0.deps.channels.get_str(std::str::from_utf8(name).ok()?)?;
        Scope::of(&channel).includes(&remote.identity).then_some(channel)
    }
}

/// Looks up, once for each collection, whether a peer may have its values.
struct MayHave<'a> {
    channel: &'a Channel,
    who: &'a Authenticated,
    known: BTreeMap<(String, String), bool>,
}

impl MayHave<'_> {
    fn ask(&mut self, chaincode: &str, name: &str) -> bool {
        let key = (chaincode.to_owned(), name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let (state, bundle) = (self.channel.ledger().state(), self.channel.bundle());
        let found = collections::find(&state, &bundle, chaincode, name);
        let has = found.ok().flatten().is_some_and(|it| it.admits(bundle.msps(), self.who));
        self.known.insert(key, has);
        has
    }
}

/// The values that a digest names: of the committed transaction, else those that wait for it.
fn payload(channel: &Channel, asked: &Digest) -> Vec<Bytes> {
    let ledger = channel.ledger();
    let Digest { block, index, tx_id, namespace, collection } = asked;
    let slot = private::Slot { tx_id, namespace, collection };
    let stored = || ledger.private_writes(namespace, collection, *block, *index);
    let found = || match stored()? {
        Some(writes) => Ok(vec![writes]),
        None => match private::held(ledger, slot, ANSWER_BYTES)? {
            // The block may have been written between the two looks, and moved them.
            held if held.is_empty() => Ok(Vec::from_iter(stored()?)),
            held => Ok(held),
        },
    };
    found().unwrap_or_else(|error: KvError| {
        tracing::error!(channel = %channel.id(), %error, "failed to look up private data");
        Vec::new()
    })
}

/// A name of another peer's, fit for a log.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}
