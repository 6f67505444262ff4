//! What the valid transactions of a block change, as one value: it can be looked into before it
//! is stored, stored, and turned into the bytes that commit hashes cover.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use bytes::Bytes;
use prost::Message as _;

use crate::Version;
use crate::kv::Batch;
use crate::kv::column::{Column, HISTORY, PRIVATE_STATE, STATE, STATE_HASHES};
use crate::state::encoding::{append_text, encode_value};
use crate::state::{CollectionKey, StateKey, VersionedValue};

/// A key's new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The value, or `None` where the key is deleted.
    pub value: Option<Bytes>,
    /// The key's metadata in its stored form; empty without any.
    pub metadata: Bytes,
    /// The transaction that does this.
    pub version: Version,
}

impl Update {
    /// What a reader sees, `None` where the key is deleted.
    pub fn to_value(&self) -> Option<VersionedValue> {
        let Self { value, metadata, version } = self;
        let (metadata, version) = (metadata.clone(), *version);
        value.clone().map(|value| VersionedValue { value, metadata, version })
    }
}

/// Updates of public keys.
pub type PublicUpdates = BTreeMap<String, Update>;

/// Updates of the hashes of a collection's keys, by the hash of the key.
pub type HashUpdates = BTreeMap<Bytes, Update>;

/// Updates in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceUpdates {
    /// Public keys.
    pub public: PublicUpdates,
    /// Hashes of private keys, by collection.
    pub collections: BTreeMap<String, HashUpdates>,
}

/// All updates of a block. Equal updates are equal values and give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateBatch {
    namespaces: BTreeMap<String, NamespaceUpdates>,
}

impl UpdateBatch {
    /// No updates.
    pub fn new() -> Self {
        Self::default()
    }

    /// The updates by namespace.
    pub fn namespaces(&self) -> &BTreeMap<String, NamespaceUpdates> {
        &self.namespaces
    }

    /// Whether nothing is updated.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// The update of a public key, if there is one.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&Update> {
        self.namespaces.get(namespace)?.public.get(key)
    }

    /// The update of a private key's hash, if there is one.
    pub fn get_hash(&self, namespace: &str, collection: &str, key_hash: &[u8]) -> Option<&Update> {
        self.namespaces.get(namespace)?.collections.get(collection)?.get(key_hash)
    }

    /// Sets the update of a public key; the last one counts.
    pub fn put(&mut self, namespace: &str, key: &str, update: Update) {
        self.namespace(namespace).public.insert(key.to_owned(), update);
    }

    /// Sets the update of a private key's hash; the last one counts.
    pub fn put_hash(&mut self, namespace: &str, collection: &str, key_hash: Bytes, update: Update) {
        let collections = &mut self.namespace(namespace).collections;
        match collections.get_mut(collection) {
            Some(updates) => updates.insert(key_hash, update),
            None => collections.entry(collection.to_owned()).or_default().insert(key_hash, update),
        };
    }

    fn namespace(&mut self, namespace: &str) -> &mut NamespaceUpdates {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), NamespaceUpdates::default());
        }
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    /// The updates of public keys from `start` up to, but without, `end`; either may be empty,
    /// which is open.
    pub(crate) fn range(
        &self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Option<Range<'_, String, Update>> {
        let public = &self.namespaces.get(namespace)?.public;
        if !end.is_empty() && start >= end {
            return None;
        }
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        Some(public.range::<str, _>((Bound::Included(start), end)))
    }

    /// Adds the updates to a write.
    pub fn write_to(&self, batch: &mut Batch) {
        for (namespace, updates) in &self.namespaces {
            for (key, update) in &updates.public {
                write(batch, STATE, StateKey { namespace, key }.encode(), update);
            }
            for (collection, updates) in &updates.collections {
                for (key, update) in updates {
                    let key = CollectionKey { namespace, collection, key }.encode();
                    write(batch, STATE_HASHES, key, update);
                }
            }
        }
    }

    /// The bytes that commit hashes cover: all updates by namespace, first the public ones, then
    /// those of each collection, each in the order of the keys. A name that equals the one
    /// before is left out, and the namespace of the channel's configuration (the empty one) is
    /// left out with its content (Fabric: core/ledger/kvledger/txmgmt/txmgr/update_batch_bytes.go).
    pub fn commit_bytes(&self) -> Vec<u8> {
        let mut writes = Vec::new();
        for (namespace, updates) in &self.namespaces {
            if namespace.is_empty() {
                continue;
            }
            let first = writes.len();
            let public = updates.public.iter();
            writes.extend(public.map(|(key, update)| commit_write(key.as_bytes(), update)));
            for (collection, updates) in &updates.collections {
                let first = writes.len();
                writes.extend(updates.iter().map(|(key, update)| commit_write(key, update)));
                if let Some(write) = writes.get_mut(first) {
                    write.collection.clone_from(collection);
                }
            }
            if let Some(write) = writes.get_mut(first) {
                write.namespace.clone_from(namespace);
            }
        }
        CommitUpdates { writes }.encode_to_vec()
    }
}

fn write(batch: &mut Batch, column: Column, key: Vec<u8>, update: &Update) {
    match &update.value {
        Some(value) => {
            batch.put(column, key, encode_value(value, &update.metadata, update.version))
        }
        None => batch.delete(column, key),
    }
}

fn commit_write(key: &[u8], update: &Update) -> CommitWrite {
    let mut version = Vec::with_capacity(8);
    update.version.append_ordered(&mut version);
    CommitWrite {
        namespace: String::new(),
        collection: String::new(),
        key: Bytes::copy_from_slice(key),
        is_delete: update.value.is_none(),
        value: update.value.clone().unwrap_or_default(),
        version: version.into(),
    }
}

/// The message whose encoding commit hashes cover (Fabric:
/// core/ledger/kvledger/txmgmt/txmgr/updates.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct CommitUpdates {
    #[prost(message, repeated, tag = "1")]
    writes: Vec<CommitWrite>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CommitWrite {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    collection: String,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(bool, tag = "4")]
    is_delete: bool,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    version: Bytes,
}

/// A private key's new value, kept beside its hash by peers that have it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateUpdate {
    /// The namespace.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// The key.
    pub key: String,
    /// The value, or `None` where the key is deleted.
    pub value: Option<Bytes>,
    /// The transaction that does this; equal to the version of the key's hash.
    pub version: Version,
}

impl std::fmt::Debug for PrivateUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the key nor the value is for logs.
        f.debug_struct("PrivateUpdate")
            .field("namespace", &self.namespace)
            .field("collection", &self.collection)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl PrivateUpdate {
    /// Adds the update to a write.
    pub fn write_to(&self, batch: &mut Batch) {
        let Self { namespace, collection, key, value, version } = self;
        let key = CollectionKey { namespace, collection, key: key.as_bytes() }.encode();
        let update = Update { value: value.clone(), metadata: Bytes::new(), version: *version };
        write(batch, PRIVATE_STATE, key, &update);
    }
}

/// A write of a public key by a valid transaction, whether or not a later one of the same block
/// wrote the key again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryWrite {
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The transaction.
    pub version: Version,
}

impl HistoryWrite {
    /// Adds the record to a write.
    pub fn write_to(&self, batch: &mut Batch) {
        let mut key = history_prefix(&self.namespace, &self.key);
        key.extend_from_slice(&self.version.block.to_be_bytes());
        // A block has fewer than 2^32 transactions: its list of them would not fit a message.
        let place = u32::try_from(self.version.tx).unwrap_or(u32::MAX);
        key.extend_from_slice(&place.to_be_bytes());
        batch.put(HISTORY, key, Bytes::new());
    }
}

/// What the history records of a key begin with.
pub(crate) fn history_prefix(namespace: &str, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + namespace.len() + key.len());
    append_text(&mut bytes, namespace);
    append_text(&mut bytes, key);
    bytes
}
