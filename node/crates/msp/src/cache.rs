//! Identities that were read before, by their encoded form.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::identity::Identity;

/// Locks are held for one look-up each; with this many, threads rarely meet at one.
const SHARDS: usize = 16;

type Shard = Mutex<LruCache<Bytes, Arc<Identity>>>;

/// A bounded map that drops what was not used for longest, shared between threads.
pub(crate) struct IdentityCache {
    shards: Vec<Shard>,
}

impl IdentityCache {
    /// Room for about `capacity` identities, at least one a shard.
    pub(crate) fn new(capacity: usize) -> Self {
        let each = NonZeroUsize::new(capacity / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Self { shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect() }
    }

    pub(crate) fn get(&self, serialized: &[u8]) -> Option<Arc<Identity>> {
        self.shard(serialized)?.lock().get(serialized).cloned()
    }

    pub(crate) fn insert(&self, identity: &Arc<Identity>) {
        let key = identity.serialized().clone();
        if let Some(shard) = self.shard(&key) {
            shard.lock().put(key, Arc::clone(identity));
        }
    }

    /// Picks by a few octets of the signature, which is what a certificate ends with: they are as
    /// good as random. An identity made to fall into a certain shard needs a trusted authority, and
    /// would gain nothing but to push out others of that shard.
    fn shard(&self, serialized: &[u8]) -> Option<&Shard> {
        let end = serialized.len().saturating_sub(32);
        let sample = serialized.get(end.saturating_sub(16)..end).unwrap_or_default();
        let mixed = sample.iter().fold(serialized.len(), |mixed, octet| {
            mixed.wrapping_mul(31).wrapping_add(usize::from(*octet))
        });
        self.shards.get(mixed % SHARDS)
    }
}
