//! What private writes become in the store, as one write.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use weft_protos::ext::{DecodeError, decode};
use weft_protos::kvrwset::KvrwSet;
use weft_types::BlockNumber;

use super::keys::{
    Ending, Expiry, KeyError, WritesKey, decode_purge, encode_purge, ends_with, place_of,
};
use crate::Version;
use crate::kv::column::{EXPIRY, MISSING_PRIVATE, PRIVATE_DATA, PRIVATE_STATE, PURGED};
use crate::kv::{Batch, Column, Direction, Entries, KeyRange, KvError, KvRead};
use crate::rwset::is_delete;
use crate::state::{CollectionKey, KvState, StateError, StateReader, VersionedValue};
use crate::updates::PrivateUpdate;

/// Records looked at in one go.
const CHUNK: usize = 64;

/// Private writes could not be worked into the store.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The store cannot be read.
    #[error("failed to read private data")]
    Store(#[source] KvError),
    /// The state cannot be read.
    #[error("failed to read the state of private data")]
    State(#[source] StateError),
    /// A stored key is not in its form.
    #[error("failed to read private data")]
    Key(#[source] KeyError),
    /// Stored writes are not in their form.
    #[error("failed to read stored private writes of {namespace:?}, {collection:?}")]
    Writes {
        /// The namespace.
        namespace: String,
        /// The collection.
        collection: String,
        /// Why not.
        source: DecodeError,
    },
}

/// A private key: namespace, collection, key.
type Name = (String, String, String);
/// A collection: namespace, name.
type CollectionName = (String, String);

/// Collects what happens to private data at once: with a block ([`new`](Self::new)), or when
/// writes of earlier blocks are found ([`for_earlier`](Self::for_earlier)).
///
/// First name the purges, then give the writes in the order of their transactions.
pub struct PrivateBatch<'a> {
    /// What is stored.
    state: &'a KvState,
    /// The hashes as they will be.
    hashes: &'a dyn StateReader,
    /// Whether later purges may have been committed already.
    is_earlier: bool,
    /// Values that are written, `None` where the key is deleted.
    values: BTreeMap<Name, Option<Bytes>>,
    /// Keys whose metadata is written, which renews the version.
    renewed: BTreeSet<Name>,
    lives: BTreeMap<CollectionName, u64>,
    purges: BTreeMap<CollectionName, BTreeMap<Bytes, Version>>,
    /// Changes that come before those of [`values`](Self::values).
    batch: Batch,
    ended: usize,
}

impl<'a> PrivateBatch<'a> {
    /// What a block does. `state` is what is stored before the block, `hashes` the state with all
    /// that the block changes.
    #[must_use]
    pub fn new(state: &'a KvState, hashes: &'a dyn StateReader) -> Self {
        Self {
            state,
            hashes,
            is_earlier: false,
            values: BTreeMap::new(),
            renewed: BTreeSet::new(),
            lives: BTreeMap::new(),
            purges: BTreeMap::new(),
            batch: Batch::new(),
            ended: 0,
        }
    }

    /// What comes of writes of earlier blocks. Nothing else may write private data meanwhile.
    #[must_use]
    pub fn for_earlier(state: &'a KvState) -> Self {
        Self { is_earlier: true, ..Self::new(state, state) }
    }

    /// A transaction purges the key with this hash: its value, and all earlier writes of it.
    pub fn purge(&mut self, namespace: &str, collection: &str, key_hash: Bytes, version: Version) {
        let name = (namespace.to_owned(), collection.to_owned());
        self.purges.entry(name).or_default().insert(key_hash, version);
    }

    /// This peer has the writes of a transaction: `bytes` encoded, `set` decoded. What they write
    /// lives for `block_to_live` blocks; 0 is for ever.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn writes(
        &mut self,
        key: WritesKey<'_>,
        bytes: Bytes,
        mut set: KvrwSet,
        block_to_live: u64,
    ) -> Result<(), PrivateError> {
        let purged = self.purged_of(key, &set)?;
        let stored = match purged.is_empty() {
            true => bytes,
            false => {
                strip(&mut set, &purged);
                set.encode_to_vec().into()
            }
        };
        let (namespace, collection) = (key.namespace, key.collection);
        let name = |key: String| (namespace.to_owned(), collection.to_owned(), key);
        for write in set.writes {
            let value = (!is_delete(&write)).then_some(write.value);
            self.values.insert(name(write.key), value);
        }
        self.renewed.extend(set.metadata_writes.into_iter().map(|write| name(write.key)));
        self.lives.insert((namespace.to_owned(), collection.to_owned()), block_to_live);
        self.batch.put(PRIVATE_DATA, key.encode(), stored);
        match self.is_earlier {
            true => self.batch.delete(MISSING_PRIVATE, key.encode()),
            false => self.writes_end(key, block_to_live),
        }
        Ok(())
    }

    /// This peer does not have the writes of a transaction.
    pub fn missing(&mut self, key: WritesKey<'_>, block_to_live: u64) {
        self.batch.put(MISSING_PRIVATE, key.encode(), Bytes::new());
        self.writes_end(key, block_to_live);
    }

    /// Takes away what ends: `ending` are the keys of the column [`EXPIRY`] for this block. Hashes
    /// are left to [`expired_hashes`](super::expired_hashes).
    ///
    /// # Errors
    /// Fails where the state cannot be read, or a key is not in its form.
    pub fn end(&mut self, ending: &[Vec<u8>]) -> Result<(), PrivateError> {
        for stored in ending {
            let expiry = Expiry::decode(stored).map_err(PrivateError::Key)?;
            match expiry.what {
                Ending::Hash(_) => {}
                Ending::Value(key) => self.end_value(expiry, key)?,
                Ending::Writes => {
                    let Expiry { namespace, collection, block, place, .. } = expiry;
                    let key = WritesKey { namespace, collection, block, place }.encode();
                    self.batch.delete(PRIVATE_DATA, key.clone());
                    self.batch.delete(MISSING_PRIVATE, key);
                    self.ended += 1;
                }
            }
            self.batch.delete(EXPIRY, stored.clone());
        }
        Ok(())
    }

    /// How many collections' writes of single transactions have ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// Everything, as one write.
    ///
    /// A purge costs a pass over all that this peer has of the collection's writes.
    ///
    /// # Errors
    /// Fails where the store cannot be read.
    pub fn finish(mut self) -> Result<Batch, PrivateError> {
        let purges = std::mem::take(&mut self.purges);
        let mut batch = Batch::new();
        for ((namespace, collection), purged) in &purges {
            self.purge_state(&mut batch, namespace, collection, purged)?;
            self.purge_writes(&mut batch, namespace, collection, purged)?;
        }
        batch.extend(std::mem::take(&mut self.batch));
        let (values, renewed) =
            (std::mem::take(&mut self.values), std::mem::take(&mut self.renewed));
        for (name, value) in &values {
            self.settle(&mut batch, name, value.clone(), None)?;
        }
        for name in renewed.iter().filter(|name| !values.contains_key(name)) {
            let stored = self.stored(name)?;
            let (value, version) = stored.map(|found| (found.value, found.version)).unzip();
            self.settle(&mut batch, name, value, version)?;
        }
        Ok(batch)
    }

    /// Puts a key's newest known value into the private state, if it is the one that the hash is
    /// of; takes the key away where there is no hash.
    fn settle(
        &self,
        batch: &mut Batch,
        name: &Name,
        value: Option<Bytes>,
        stored: Option<Version>,
    ) -> Result<(), PrivateError> {
        let (namespace, collection, key) = name;
        let update = |value, version| {
            let (namespace, collection) = (namespace.clone(), collection.clone());
            PrivateUpdate { namespace, collection, key: key.clone(), value, version }
        };
        match (self.hash_of(name)?, value) {
            (None, _) => update(None, Version::new(0, 0)).write_to(batch),
            (Some(hash), Some(value)) if is_of(&hash, &value) && stored != Some(hash.version) => {
                update(Some(value), hash.version).write_to(batch);
                let name = (namespace.clone(), collection.clone());
                let lives = self.lives.get(&name).copied().unwrap_or(0);
                self.value_ends(batch, (namespace, collection, key), hash.version, lives);
            }
            // The newest value of the key is not known.
            (Some(_), _) => {}
        }
        Ok(())
    }

    fn writes_end(&mut self, key: WritesKey<'_>, block_to_live: u64) {
        if let Some(at) = ends_with(key.block, block_to_live) {
            let WritesKey { namespace, collection, block, place } = key;
            let what = Ending::Writes;
            let expiry = Expiry { at, namespace, collection, block, place, what };
            self.batch.put(EXPIRY, expiry.encode(), Bytes::new());
        }
    }

    fn value_ends(
        &self,
        batch: &mut Batch,
        (namespace, collection, key): (&str, &str, &str),
        version: Version,
        block_to_live: u64,
    ) {
        if let Some(at) = ends_with(version.block, block_to_live) {
            let (block, place, what) = (version.block, place_of(version), Ending::Value(key));
            let expiry = Expiry { at, namespace, collection, block, place, what };
            batch.put(EXPIRY, expiry.encode(), Bytes::new());
        }
    }

    /// A value goes when its hash does. Where only the hash was renewed, because this peer does
    /// not have the writes that did it, the value goes with the renewed hash.
    fn end_value(&mut self, expiry: Expiry<'_>, key: &str) -> Result<(), PrivateError> {
        let (namespace, collection) = (expiry.namespace.to_owned(), expiry.collection.to_owned());
        let name = (namespace, collection, key.to_owned());
        let Some(stored) = self.stored(&name)? else { return Ok(()) };
        if stored.version != expiry.version() {
            return Ok(());
        }
        match self.hash_of(&name)? {
            Some(hash) if is_of(&hash, &stored.value) => {
                let lives = expiry.at.saturating_sub(expiry.block).saturating_sub(1);
                if let Some(at) = ends_with(hash.version.block, lives).filter(|at| *at > expiry.at)
                {
                    self.batch.put(EXPIRY, Expiry { at, ..expiry }.encode(), Bytes::new());
                }
            }
            _ => self.batch.delete(PRIVATE_STATE, state_key(&name)),
        }
        Ok(())
    }

    /// Of the keys of these writes the hashes of those that were purged by a later transaction.
    fn purged_of(
        &self,
        key: WritesKey<'_>,
        set: &KvrwSet,
    ) -> Result<BTreeSet<Bytes>, PrivateError> {
        let hashes = keys_of(set).map(key_hash);
        if self.is_earlier {
            return purged_since(self.state.reader().as_ref(), key, hashes);
        }
        let name = (key.namespace.to_owned(), key.collection.to_owned());
        let Some(now) = self.purges.get(&name) else { return Ok(BTreeSet::new()) };
        let is_later = |hash: &Bytes| now.get(hash).is_some_and(|last| *last > key.version());
        Ok(hashes.filter(is_later).collect())
    }

    /// Takes the values of purged keys away, and notes the purges.
    fn purge_state(
        &self,
        batch: &mut Batch,
        namespace: &str,
        collection: &str,
        purged: &BTreeMap<Bytes, Version>,
    ) -> Result<(), PrivateError> {
        for (hash, version) in purged {
            batch.put(PURGED, marker(namespace, collection, hash), encode_purge(*version));
        }
        // The purge's own writes name its keys, where this peer has them.
        let names = self.values.keys();
        let own =
            names.filter(|name| (name.0.as_str(), name.1.as_str()) == (namespace, collection));
        let known: BTreeMap<_, _> = own.map(|name| (key_hash(&name.2), name)).collect();
        if purged.keys().all(|hash| known.contains_key(hash)) {
            let names = purged.keys().filter_map(|hash| known.get(hash));
            names.for_each(|name| batch.delete(PRIVATE_STATE, state_key(name)));
            return Ok(());
        }
        let prefix = WritesKey::prefix(namespace, collection);
        let skip = prefix.len();
        for entry in self.entries(PRIVATE_STATE, prefix) {
            let (stored, _) = entry.map_err(PrivateError::Store)?;
            let key = stored.get(skip..).unwrap_or_default();
            if purged.contains_key(&weft_crypto::sha256(key)[..]) {
                batch.delete(PRIVATE_STATE, stored);
            }
        }
        Ok(())
    }

    /// Takes purged keys out of the writes of earlier transactions.
    fn purge_writes(
        &self,
        batch: &mut Batch,
        namespace: &str,
        collection: &str,
        purged: &BTreeMap<Bytes, Version>,
    ) -> Result<(), PrivateError> {
        for entry in self.entries(PRIVATE_DATA, WritesKey::prefix(namespace, collection)) {
            let (stored, writes) = entry.map_err(PrivateError::Store)?;
            let failed = |source| PrivateError::Writes {
                namespace: namespace.to_owned(),
                collection: collection.to_owned(),
                source,
            };
            let mut set: KvrwSet = decode("private writes", writes).map_err(failed)?;
            let hashes = keys_of(&set).map(key_hash);
            let gone: BTreeSet<_> = hashes.filter(|hash| purged.contains_key(hash)).collect();
            if !gone.is_empty() {
                strip(&mut set, &gone);
                batch.put(PRIVATE_DATA, stored, set.encode_to_vec());
            }
        }
        Ok(())
    }

    fn entries(&self, column: Column, prefix: Vec<u8>) -> Entries<'_> {
        let range = KeyRange::prefix(prefix);
        Entries::new(self.state.reader().as_ref(), column, range, Direction::Forward, CHUNK)
    }

    fn stored(&self, (ns, collection, key): &Name) -> Result<Option<VersionedValue>, PrivateError> {
        self.state.get_private(ns, collection, key).map_err(PrivateError::State)
    }

    fn hash_of(
        &self,
        (ns, collection, key): &Name,
    ) -> Result<Option<VersionedValue>, PrivateError> {
        let hash = key_hash(key);
        self.hashes.get_hash(ns, collection, &hash).map_err(PrivateError::State)
    }
}

/// Of the hashes of keys that a transaction wrote, those that a later transaction purged.
///
/// # Errors
/// Fails where the store cannot be read.
pub fn purged_since(
    store: &dyn KvRead,
    key: WritesKey<'_>,
    hashes: impl IntoIterator<Item = Bytes>,
) -> Result<BTreeSet<Bytes>, PrivateError> {
    let mut purged = BTreeSet::new();
    for hash in hashes {
        let stored = store.get(PURGED, &marker(key.namespace, key.collection, &hash));
        let stored = stored.map_err(PrivateError::Store)?.map(|stored| decode_purge(&stored));
        let last = stored.transpose().map_err(PrivateError::Key)?;
        if last.is_some_and(|last| last > key.version()) {
            purged.insert(hash);
        }
    }
    Ok(purged)
}

/// Whether what `block` wrote is gone from a ledger of `height` blocks, for a collection whose data
/// lives for `block_to_live` blocks.
#[must_use]
pub fn has_ended(block: BlockNumber, block_to_live: u64, height: BlockNumber) -> bool {
    ends_with(block, block_to_live).is_some_and(|at| at < height)
}

fn is_of(hash: &VersionedValue, value: &[u8]) -> bool {
    hash.value == weft_crypto::sha256(value)[..]
}

fn keys_of(set: &KvrwSet) -> impl Iterator<Item = &str> {
    let writes = set.writes.iter().map(|write| write.key.as_str());
    writes.chain(set.metadata_writes.iter().map(|write| write.key.as_str()))
}

fn strip(set: &mut KvrwSet, purged: &BTreeSet<Bytes>) {
    set.writes.retain(|write| !purged.contains(&key_hash(&write.key)));
    set.metadata_writes.retain(|write| !purged.contains(&key_hash(&write.key)));
}

pub(super) fn key_hash(key: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256(key.as_ref().as_bytes()))
}

fn marker(namespace: &str, collection: &str, key_hash: &[u8]) -> Vec<u8> {
    CollectionKey { namespace, collection, key: key_hash }.encode()
}

fn state_key((namespace, collection, key): &Name) -> Vec<u8> {
    CollectionKey { namespace, collection, key: key.as_bytes() }.encode()
}
