//! Building read-write sets. Namespaces, collections and keys come out sorted, so equal
//! simulations give equal bytes on every endorser (Fabric:
//! core/ledger/kvledger/txmgmt/rwsetutil/rwset_builder.go).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use weft_protos::kvrwset::{
    HashedRwSet, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvReadHash, KvWrite, KvWriteHash,
    KvrwSet, RangeQueryInfo,
};
use weft_protos::rwset::{
    CollectionHashedReadWriteSet, CollectionPvtReadWriteSet, NsPvtReadWriteSet, NsReadWriteSet,
    TxPvtReadWriteSet, TxReadWriteSet,
};

use crate::Version;
use crate::state::metadata::{self, Metadata};

/// Collects what a transaction reads and writes. Of several records of one key the last counts.
#[derive(Debug, Default)]
pub struct RwSetBuilder {
    namespaces: BTreeMap<String, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    reads: BTreeMap<String, KvRead>,
    ranges: Vec<RangeQueryInfo>,
    writes: BTreeMap<String, KvWrite>,
    metadata: BTreeMap<String, KvMetadataWrite>,
    collections: BTreeMap<String, Collection>,
}

#[derive(Debug, Default)]
struct Collection {
    /// By private key, as all maps here; the hash's order follows from the key's.
    reads: BTreeMap<String, KvReadHash>,
    writes: BTreeMap<String, KvWriteHash>,
    metadata: BTreeMap<String, KvMetadataWriteHash>,
    private_writes: BTreeMap<String, KvWrite>,
    private_metadata: BTreeMap<String, KvMetadataWrite>,
}

/// A finished set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltRwSet {
    /// What goes into the transaction: public reads and writes, and hashes of private ones.
    pub public: TxReadWriteSet,
    /// The private writes themselves, where there are any.
    pub private: Option<TxPvtReadWriteSet>,
}

impl RwSetBuilder {
    /// Nothing read or written.
    pub fn new() -> Self {
        Self::default()
    }

    /// A read of a key; `None` where it does not exist.
    pub fn read(&mut self, namespace: &str, key: &str, version: Option<Version>) {
        let read = KvRead { key: key.to_owned(), version: version.map(Version::to_proto) };
        self.namespace(namespace).reads.insert(key.to_owned(), read);
    }

    /// A write of a key; an empty value deletes it.
    pub fn write(&mut self, namespace: &str, key: &str, value: Bytes) {
        let write = kv_write(key, value);
        self.namespace(namespace).writes.insert(key.to_owned(), write);
    }

    /// A write of all of a key's metadata; none deletes it.
    pub fn write_metadata(&mut self, namespace: &str, key: &str, metadata: &Metadata) {
        let entries = metadata::to_entries(metadata);
        let write = KvMetadataWrite { key: key.to_owned(), entries };
        self.namespace(namespace).metadata.insert(key.to_owned(), write);
    }

    /// A range query. One with the bounds and exhaustion of an earlier one is left out.
    pub fn range(&mut self, namespace: &str, info: RangeQueryInfo) {
        let same = |other: &RangeQueryInfo| {
            other.start_key == info.start_key
                && other.end_key == info.end_key
                && other.itr_exhausted == info.itr_exhausted
        };
        let ranges = &mut self.namespace(namespace).ranges;
        if !ranges.iter().any(same) {
            ranges.push(info);
        }
    }

    /// A read of a private key or its hash.
    pub fn read_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        version: Option<Version>,
    ) {
        let read = KvReadHash { key_hash: hash(key), version: version.map(Version::to_proto) };
        self.collection(namespace, collection).reads.insert(key.to_owned(), read);
    }

    /// A write of a private key; an empty value deletes it.
    pub fn write_private(&mut self, namespace: &str, collection: &str, key: &str, value: Bytes) {
        self.private(namespace, collection, key, value, false);
    }

    /// A deletion of a private key together with its history.
    pub fn purge_private(&mut self, namespace: &str, collection: &str, key: &str) {
        self.private(namespace, collection, key, Bytes::new(), true);
    }

    fn private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
        is_purge: bool,
    ) {
        let is_delete = value.is_empty();
        let value_hash = if is_delete { Bytes::new() } else { hash(&value) };
        let write = KvWriteHash { key_hash: hash(key), is_delete, value_hash, is_purge };
        let collection = self.collection(namespace, collection);
        collection.writes.insert(key.to_owned(), write);
        collection.private_writes.insert(key.to_owned(), kv_write(key, value));
    }

    /// A write of all of a private key's metadata; none deletes it.
    pub fn write_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        metadata: &Metadata,
    ) {
        let entries = metadata::to_entries(metadata);
        let write = KvMetadataWriteHash { key_hash: hash(key), entries };
        // The private part only names the key, whose version the write renews.
        let private = KvMetadataWrite { key: key.to_owned(), entries: Vec::new() };
        let collection = self.collection(namespace, collection);
        collection.metadata.insert(key.to_owned(), write);
        collection.private_metadata.insert(key.to_owned(), private);
    }

    /// The set as messages.
    pub fn build(self) -> BuiltRwSet {
        let mut public = TxReadWriteSet::default();
        let mut private = TxPvtReadWriteSet::default();
        for (name, namespace) in self.namespaces {
            let (set, private_set) = namespace.build(name);
            public.ns_rwset.push(set);
            private.ns_pvt_rwset.extend(private_set);
        }
        let private = (!private.ns_pvt_rwset.is_empty()).then_some(private);
        BuiltRwSet { public, private }
    }

    fn namespace(&mut self, namespace: &str) -> &mut Namespace {
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    fn collection(&mut self, namespace: &str, collection: &str) -> &mut Collection {
        self.namespace(namespace).collections.entry(collection.to_owned()).or_default()
    }
}

impl Namespace {
    fn build(self, namespace: String) -> (NsReadWriteSet, Option<NsPvtReadWriteSet>) {
        let set = KvrwSet {
            reads: self.reads.into_values().collect(),
            range_queries_info: self.ranges,
            writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata.into_values().collect(),
        };
        let mut hashed = Vec::with_capacity(self.collections.len());
        let mut private = Vec::new();
        for (name, collection) in self.collections {
            let (set, private_set) = collection.build(name);
            hashed.push(set);
            private.extend(private_set);
        }
        let private = (!private.is_empty()).then(|| NsPvtReadWriteSet {
            namespace: namespace.clone(),
            collection_pvt_rwset: private,
        });
        let rwset = set.encode_to_vec().into();
        (NsReadWriteSet { namespace, rwset, collection_hashed_rwset: hashed }, private)
    }
}

impl Collection {
    fn build(
        self,
        name: String,
    ) -> (CollectionHashedReadWriteSet, Option<CollectionPvtReadWriteSet>) {
        let hashed = HashedRwSet {
            hashed_reads: self.reads.into_values().collect(),
            hashed_writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata.into_values().collect(),
        };
        let private = KvrwSet {
            writes: self.private_writes.into_values().collect(),
            metadata_writes: self.private_metadata.into_values().collect(),
            ..KvrwSet::default()
        };
        let written = !private.writes.is_empty() || !private.metadata_writes.is_empty();
        let private = written.then(|| CollectionPvtReadWriteSet {
            collection_name: name.clone(),
            rwset: private.encode_to_vec().into(),
        });
        let hash = private.as_ref().map(|set| hash(&set.rwset)).unwrap_or_default();
        let hashed = CollectionHashedReadWriteSet {
            collection_name: name,
            hashed_rwset: hashed.encode_to_vec().into(),
            pvt_rwset_hash: hash,
        };
        (hashed, private)
    }
}

fn kv_write(key: &str, value: Bytes) -> KvWrite {
    KvWrite { key: key.to_owned(), is_delete: value.is_empty(), value }
}

fn hash(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(&weft_crypto::sha256(bytes.as_ref()))
}
