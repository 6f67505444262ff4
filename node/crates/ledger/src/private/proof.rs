//! How private writes are told to be those of a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use weft_protos::kvrwset::{HashedRwSet, KvrwSet};

use super::batch::key_hash;
use crate::rwset::{RwSetError, is_delete, is_hash_delete, private_writes};

/// What private writes must be to be those of a transaction in a collection: their hash is the one
/// in the public read-write set.
///
/// Where keys of them were purged since, nobody may have them as a whole any more. Then they may
/// also lack purged keys, if each of the others has the hashes that the public read-write set has
/// of it, and none of these is left out (Fabric: core/ledger/kvledger/hash_verification.go).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritesProof {
    hash: Bytes,
    purged: Option<Arc<Purged>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Purged {
    keys: BTreeSet<Bytes>,
    /// Hashes of the other keys and of their values, `None` where the key is deleted.
    writes: BTreeMap<Bytes, Option<Bytes>>,
    metadata: BTreeSet<Bytes>,
}

impl WritesProof {
    /// By the hash of the writes alone.
    #[must_use]
    pub fn new(hash: Bytes) -> Self {
        Self { hash, purged: None }
    }

    /// By the hash of the writes or, without the keys with the hashes `purged`, by the `hashed`
    /// writes that the public read-write set has.
    #[must_use]
    pub fn with_purged(hash: Bytes, hashed: &HashedRwSet, purged: BTreeSet<Bytes>) -> Self {
        if purged.is_empty() {
            return Self::new(hash);
        }
        let writes = hashed.hashed_writes.iter().filter(|w| !purged.contains(&w.key_hash));
        let writes = writes.map(|write| {
            let value = (!is_hash_delete(write)).then(|| write.value_hash.clone());
            (write.key_hash.clone(), value)
        });
        let metadata = hashed.metadata_writes.iter().map(|write| write.key_hash.clone());
        let metadata = metadata.filter(|hash| !purged.contains(hash));
        let (writes, metadata) = (writes.collect(), metadata.collect());
        Self { hash, purged: Some(Arc::new(Purged { keys: purged, writes, metadata })) }
    }

    /// The hash of the writes as a whole.
    #[must_use]
    pub fn hash(&self) -> &Bytes {
        &self.hash
    }

    /// Whether these are the writes.
    #[must_use]
    pub fn accepts(&self, writes: &Bytes) -> bool {
        weft_crypto::sha256(writes)[..] == self.hash
            || (self.purged.is_some() && self.read("", "", writes.clone()).is_ok())
    }

    /// Reads private writes of a namespace and a collection, after a check that they are the ones.
    ///
    /// # Errors
    /// Fails where they are not, or cannot be decoded.
    pub fn read(
        &self,
        namespace: &str,
        collection: &str,
        writes: Bytes,
    ) -> Result<KvrwSet, RwSetError> {
        let whole = private_writes(namespace, collection, &self.hash, writes.clone());
        match (&self.purged, whole) {
            (Some(purged), Err(differs @ RwSetError::PrivateHash { .. })) => {
                let hash = weft_crypto::sha256(&writes);
                let set = private_writes(namespace, collection, &hash, writes)?;
                if purged.is_rest(&set) { Ok(set) } else { Err(differs) }
            }
            (_, whole) => whole,
        }
    }
}

impl Purged {
    fn is_rest(&self, set: &KvrwSet) -> bool {
        let mut writes = BTreeMap::new();
        for write in &set.writes {
            let hash = key_hash(&write.key);
            if !self.keys.contains(&hash) {
                let value = || Bytes::copy_from_slice(&weft_crypto::sha256(&write.value));
                writes.insert(hash, (!is_delete(write)).then(value));
            }
        }
        let metadata = set.metadata_writes.iter().map(|write| key_hash(&write.key));
        let metadata: BTreeSet<_> = metadata.filter(|hash| !self.keys.contains(hash)).collect();
        writes == self.writes && metadata == self.metadata
    }
}
