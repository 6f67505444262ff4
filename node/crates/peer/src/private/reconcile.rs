//! Private data that was missing when its block was committed, and is found later
//! (Fabric: gossip/privdata/reconcile.go).
//!
//! The ledger notes every private write that it does not have. Now and then, and soon after
//! something went missing, the members of the collections are asked for it, newest first. What
//! comes is checked against the hash in the block and stored as if it had been there; the private
//! state gets a value where the state's hash is still of it.
//!
//! What is asked for is told by the definitions as they are now. So an organization that becomes a
//! member of a collection gets what was written before, and one that is no member any more asks
//! for nothing. Nobody can give what its collection's block to live has ended; it is struck off.
//!
//! Where keys of a transaction's writes were purged since, the rest of them is taken, too: other
//! peers do not have more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weft_ledger::BlockStoreError;
use weft_ledger::kv::column::MISSING_PRIVATE;
use weft_ledger::kv::{Batch, Direction, Durability, Entries, KeyRange, KvError};
use weft_ledger::private::{
    KeyError, PrivateBatch, PrivateError, WritesKey, WritesProof, has_ended, purged_since,
};
use weft_ledger::rwset::CollectionRwSet;
use weft_msp::{Authenticated, CurrentIdentity};
use weft_types::{BlockNumber, ChannelId, block};

use super::recorded::Recorded;
use super::{Collection, Digest, Exchange, Found, Wanted, collections};
use crate::channel::{Channel, Channels, report};
use crate::commit::metrics::field;

/// What is asked for in one go.
const BATCH: usize = 64;
/// What is gone through in one round; the next round goes on where this one ended.
const ROUND: usize = 8192;
/// Records looked at in one go.
const CHUNK: usize = 256;
/// How long after something went missing it is asked for again.
const SOON: Duration = Duration::from_secs(1);

/// Missing private data cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What is missing cannot be read.
    #[error("failed to read what private data is missing")]
    Missing(#[source] KvError),
    /// A stored key is not in its form.
    #[error("failed to read what private data is missing")]
    Key(#[source] KeyError),
    /// A block cannot be read.
    #[error("failed to read a block with missing private data")]
    Block(#[source] BlockStoreError),
    /// What was found cannot be worked in.
    #[error("failed to work in private data that was found")]
    Work(#[source] PrivateError),
    /// What was found cannot be stored.
    #[error("failed to store private data that was found")]
    Store(#[source] KvError),
    /// The work broke off.
    #[error("failed to look for private data: the work broke off")]
    Broken,
}

/// Looks for missing private data of all channels until `shutdown`, every `interval`; an interval of
/// zero does not look at all. `identity` is this peer's.
pub async fn run(
    channels: Arc<Channels>,
    exchange: Arc<dyn Exchange>,
    identity: CurrentIdentity,
    interval: Duration,
    shutdown: CancellationToken,
) {
    if interval.is_zero() {
        return;
    }
    let mut reconciler = Reconciler { exchange, identity, left_at: BTreeMap::new() };
    let mut rounds = tokio::time::interval(interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let work = async {
        loop {
            let is_whole = tokio::select! {
                _ = rounds.tick() => true,
                () = channels.went_missing() => {
                    tokio::time::sleep(SOON.min(interval)).await;
                    false
                }
            };
            for channel in channels.list() {
                reconciler.round(&channels, &channel, is_whole).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

/// Where the writes of a transaction are.
type Place = (BlockNumber, u32);

/// Private writes that are missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Missing {
    place: Place,
    namespace: String,
    collection: String,
}

/// What is missing of the collections that this peer is to hold.
#[derive(Debug, Default)]
struct List {
    /// Newest first.
    missing: Vec<Missing>,
    collections: BTreeMap<(String, String), Collection>,
    /// Whether there is more, that is older.
    is_cut: bool,
}

struct Reconciler {
    exchange: Arc<dyn Exchange>,
    identity: CurrentIdentity,
    /// Where the last round ended, of channels where it did not come to the end.
    left_at: BTreeMap<ChannelId, Missing>,
}

impl Reconciler {
    async fn round(&mut self, channels: &Channels, channel: &Arc<Channel>, is_whole: bool) {
        let before = match is_whole {
            true => self.left_at.remove(channel.id()),
            false => None,
        };
        match self.look(channel, before, is_whole).await {
            Ok((found, left_at)) => {
                if let Some(left_at) = left_at.filter(|_| is_whole) {
                    self.left_at.insert(channel.id().clone(), left_at);
                }
                if found > 0 {
                    tracing::info!({ field::CHANNEL } = %channel.id(), found, "found missing private data");
                    channels.metrics().inspect(|metrics| metrics.reconciled(channel.id(), found));
                }
            }
            Err(error) => {
                tracing::warn!({ field::CHANNEL } = %channel.id(), error = %report(&error), "failed to look for missing private data");
            }
        }
    }

    /// Asks for what is missing before a place, the newest of it only unless the round is a whole
    /// one. How much was found, and where the round ended if there is more.
    async fn look(
        &self,
        channel: &Arc<Channel>,
        before: Option<Missing>,
        is_whole: bool,
    ) -> Result<(u64, Option<Missing>), ReconcileError> {
        let own = self.identity.current().authenticated();
        let limit = if is_whole { ROUND } else { BATCH };
        let list =
            blocking(channel, move |channel| list(channel, &own, before.as_ref(), limit)).await?;
        let left_at = list.missing.last().filter(|_| list.is_cut).cloned();
        let list = Arc::new(list);
        let mut found = 0;
        let mut from = 0;
        while from < list.missing.len() {
            let part = Arc::clone(&list);
            let asked = blocking(channel, move |channel| wanted(channel, &part, from)).await?;
            from = from.saturating_add(BATCH);
            if asked.is_empty() {
                continue;
            }
            let sent = self.exchange.pull(channel, asked.clone()).await;
            found += blocking(channel, move |channel| store(channel, &asked, sent)).await?;
        }
        Ok((found, left_at))
    }
}

/// Reads and writes of the store can take their time.
async fn blocking<T: Send + 'static>(
    channel: &Arc<Channel>,
    work: impl FnOnce(&Channel) -> Result<T, ReconcileError> + Send + 'static,
) -> Result<T, ReconcileError> {
    let channel = Arc::clone(channel);
    let done = tokio::task::spawn_blocking(move || work(&channel));
    done.await.unwrap_or(Err(ReconcileError::Broken))
}

/// The newest `limit` that are missing, of those before a place.
fn list(
    channel: &Channel,
    own: &Authenticated,
    before: Option<&Missing>,
    limit: usize,
) -> Result<List, ReconcileError> {
    let ledger = channel.ledger();
    let (state, bundle) = (ledger.state(), channel.bundle());
    let kv = Arc::clone(state.reader());
    let mut newest: BTreeSet<Missing> = BTreeSet::new();
    let mut list = List::default();
    let mut next = Some(Bytes::new());
    while let Some(start) = next {
        let first = kv.scan(MISSING_PRIVATE, &KeyRange::from(start), Direction::Forward, 1);
        let first = first.map_err(ReconcileError::Missing)?.pop();
        let Some((key, _)) = first else { break };
        let key = WritesKey::decode(&key).map_err(ReconcileError::Key)?;
        let name = (key.namespace.to_owned(), key.collection.to_owned());
        let range = KeyRange::prefix(WritesKey::prefix(&name.0, &name.1));
        next = range.end.clone();
        let collection = match collections::find(&state, &bundle, &name.0, &name.1) {
            Ok(found) => found.filter(|found| found.admits(bundle.msps(), own)),
            // Others are looked for nevertheless.
            Err(error) => {
                tracing::warn!(error = %report(&error), "failed to look up a collection");
                None
            }
        };
        let Some(collection) = collection else { continue };
        for entry in Entries::new(kv.as_ref(), MISSING_PRIVATE, range, Direction::Forward, CHUNK) {
            let (stored, _) = entry.map_err(ReconcileError::Missing)?;
            let key = WritesKey::decode(&stored).map_err(ReconcileError::Key)?;
            let (namespace, collection_name) = name.clone();
            let place = (key.block, key.place);
            let missing = Missing { place, namespace, collection: collection_name };
            if has_ended(key.block, collection.block_to_live, ledger.height()) {
                strike_off(channel, stored.clone())?;
            } else if before.is_none_or(|before| missing < *before) {
                newest.insert(missing);
                if newest.len() > limit {
                    newest.pop_first();
                    list.is_cut = true;
                }
            }
        }
        list.collections.insert(name, collection);
    }
    list.missing = newest.into_iter().rev().collect();
    Ok(list)
}

fn strike_off(channel: &Channel, key: Bytes) -> Result<(), ReconcileError> {
    let mut batch = Batch::new();
    batch.delete(MISSING_PRIVATE, key);
    channel.ledger().kv().write(batch, Durability::Buffered).map_err(ReconcileError::Store)
}

/// A batch of the list as other peers are asked for it.
fn wanted(channel: &Channel, list: &List, from: usize) -> Result<Vec<Wanted>, ReconcileError> {
    let mut batch: Vec<_> = list.missing.iter().skip(from).take(BATCH).collect();
    // Each block is read once.
    batch.sort_by_key(|missing| Reverse(missing.place));
    let mut wanted = Vec::with_capacity(batch.len());
    let mut read: Option<(BlockNumber, Vec<Bytes>)> = None;
    for Missing { place: (number, index), namespace, collection: name } in batch {
        if read.as_ref().is_none_or(|(known, _)| known != number) {
            let found = channel.ledger().blocks().block(*number).map_err(ReconcileError::Block)?;
            read = Some((
                *number,
                found.map(|b| block::transactions(&b).to_vec()).unwrap_or_default(),
            ));
        }
        let raw = read.as_ref().and_then(|(_, raw)| raw.get(usize::try_from(*index).ok()?));
        let recorded = raw.cloned().and_then(Recorded::read);
        let collection = list.collections.get(&(namespace.clone(), name.clone()));
        let (Some(recorded), Some(collection)) = (recorded, collection) else { continue };
        let Some(part) = recorded.collection(namespace, name) else { continue };
        let key = WritesKey { namespace, collection: name, block: *number, place: *index };
        let proof = proof(channel, key, part).map_err(ReconcileError::Work)?;
        wanted.push(Wanted {
            digest: Digest {
                block: *number,
                index: *index,
                tx_id: recorded.tx_id,
                namespace: namespace.clone(),
                collection: name.clone(),
            },
            collection: collection.clone(),
            proof,
            endorsers: recorded.endorsers,
        });
    }
    Ok(wanted)
}

/// How the writes of a transaction are known, by what was purged up to now.
fn proof(
    channel: &Channel,
    key: WritesKey<'_>,
    part: &CollectionRwSet,
) -> Result<WritesProof, PrivateError> {
    let writes = part.hashed.hashed_writes.iter().map(|write| write.key_hash.clone());
    let metadata = part.hashed.metadata_writes.iter().map(|write| write.key_hash.clone());
    let purged = purged_since(channel.ledger().kv().as_ref(), key, writes.chain(metadata))?;
    Ok(WritesProof::with_purged(part.private_hash.clone(), &part.hashed, purged))
}

/// Stores what was sent, as far as it is what was asked for. How much that is.
fn store(channel: &Channel, asked: &[Wanted], sent: Vec<Found>) -> Result<u64, ReconcileError> {
    let mut stored = 0;
    for Found { digest, writes } in sent {
        let Some(wanted) = asked.iter().find(|wanted| wanted.digest == digest) else { continue };
        let (namespace, name) = (digest.namespace.as_str(), digest.collection.as_str());
        let set = match wanted.proof.read(namespace, name, writes.clone()) {
            Ok(set) => set,
            Err(error) => {
                tracing::warn!(error = %report(&error), "a peer sent other private data than was asked for");
                continue;
            }
        };
        let key =
            WritesKey { namespace, collection: name, block: digest.block, place: digest.index };
        let ledger = channel.ledger();
        let _writing = channel.writes_private();
        // It can have ended, or have been found, in the meantime.
        let missing = ledger.kv().get(MISSING_PRIVATE, &key.encode());
        if missing.map_err(ReconcileError::Missing)?.is_none() {
            continue;
        }
        let state = ledger.state();
        let mut batch = PrivateBatch::for_earlier(&state);
        batch
            .writes(key, writes, set, wanted.collection.block_to_live)
            .map_err(ReconcileError::Work)?;
        let batch = batch.finish().map_err(ReconcileError::Work)?;
        ledger.kv().write(batch, Durability::Buffered).map_err(ReconcileError::Store)?;
        stored += 1;
    }
    Ok(stored)
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
