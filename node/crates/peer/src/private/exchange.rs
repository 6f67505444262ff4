//! What a peer asks of the other members of a collection.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use weft_ledger::private::WritesProof;
use weft_types::{BlockNumber, TxId};

use super::Collection;
use crate::channel::Channel;

/// Names the private writes of a transaction in one collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// The transaction's block.
    pub block: BlockNumber,
    /// The transaction's place in the block.
    pub index: u32,
    /// The transaction.
    pub tx_id: String,
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
}

/// Private writes that this peer should have and does not.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is wanted.
    pub digest: Digest,
    /// The collection as it is defined.
    pub collection: Collection,
    /// How they are known.
    pub proof: WritesProof,
    /// Serialized identities of the transaction's endorsers: they had the writes.
    pub endorsers: Vec<Bytes>,
}

/// Private writes that another peer sent. They are the wanted ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// What they are.
    pub digest: Digest,
    /// The encoded `kvrwset.KVRWSet`.
    pub writes: Bytes,
}

/// Private writes of a fresh endorsement, for the members of their collection.
#[derive(Clone)]
pub struct Push {
    /// The transaction.
    pub tx_id: TxId,
    /// The chaincode.
    pub namespace: String,
    /// The collection as it is defined.
    pub collection: Collection,
    /// Ledger height at endorsement.
    pub height: u64,
    /// The encoded `kvrwset.KVRWSet`.
    pub writes: Bytes,
}

// Values are not for logs: of the writes only their size shows.

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { digest, writes } = self;
        f.debug_struct("Found").field("digest", digest).field("bytes", &writes.len()).finish()
    }
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tx_id, namespace, collection, height, writes } = self;
        f.debug_struct("Push")
            .field("tx_id", tx_id)
            .field("namespace", namespace)
            .field("collection", collection)
            .field("height", height)
            .field("bytes", &writes.len())
            .finish()
    }
}

/// Too few peers have taken private writes.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to distribute private collection {collection} of chaincode {namespace}: {reached} peers have it, {required} must"
)]
pub struct PushError {
    /// The chaincode.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// Peers that have said that they have it.
    pub reached: usize,
    /// Peers that must have it.
    pub required: usize,
}

/// Other members of collections.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    /// Sends private writes to up to [`Collection::maximum_peers`] peers of members, the peers of
    /// other organizations first, and waits until those have them, or time is up. Once
    /// [`Collection::required_peers`] have them it waits for the rest for a moment only: they can
    /// still get them after this has returned.
    ///
    /// # Errors
    /// Fails when fewer than [`Collection::required_peers`] have them.
    async fn push(&self, channel: &Channel, push: Push) -> Result<(), PushError>;

    /// Asks members for private writes, the endorsers first. What comes back is checked
    /// ([`Wanted::proof`]). What nobody has in time is left out.
    async fn pull(&self, channel: &Channel, wanted: Vec<Wanted>) -> Vec<Found>;
}

/// An exchange that is put in later: channels are there before the membership that carries
/// exchanges out. Until then nobody can be reached. Clones share what is put in.
#[derive(Clone, Default)]
pub struct Later(Arc<RwLock<Option<Arc<dyn Exchange>>>>);

impl Later {
    /// Nothing is put in yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `exchange` is asked.
    pub fn set(&self, exchange: Arc<dyn Exchange>) {
        *self.0.write() = Some(exchange);
    }

    /// From now on nobody can be reached again. Channels do this when they have shut down: the
    /// exchange holds them, so that neither would ever be dropped.
    pub fn clear(&self) {
        *self.0.write() = None;
    }

    fn get(&self) -> Option<Arc<dyn Exchange>> {
        self.0.read().clone()
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("is_set", &self.get().is_some()).finish()
    }
}

#[async_trait]
impl Exchange for Later {
    async fn push(&self, channel: &Channel, push: Push) -> Result<(), PushError> {
        if let Some(exchange) = self.get() {
            return exchange.push(channel, push).await;
        }
        match push.collection.required_peers {
            0 => Ok(()),
            required => Err(PushError {
                namespace: push.namespace,
                collection: push.collection.name,
                reached: 0,
                required,
            }),
        }
    }

    async fn pull(&self, channel: &Channel, wanted: Vec<Wanted>) -> Vec<Found> {
        match self.get() {
            Some(exchange) => exchange.pull(channel, wanted).await,
            None => Vec::new(),
        }
    }
}
