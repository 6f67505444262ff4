//! Validation of a block's read-write sets against the state they will be applied to, in the
//! block's order (Fabric: core/ledger/kvledger/txmgmt/validation).
//!
//! A transaction is valid where everything it read is still as it read it:
//! - a key has the version it had, and no earlier valid transaction of the block touched it,
//!   be it only to delete a key that is not there;
//! - a range has the same keys with the same versions, earlier updates of the block counted in
//!   (else there is a phantom);
//! - the hashes of private keys likewise.
//!
//! The writes of a valid transaction then become updates:
//! - a written value keeps the key's metadata, unless the transaction writes it too;
//! - metadata alone keeps the value and renews the version; on a key that does not exist it
//!   does nothing;
//! - a deletion takes the metadata with it, whatever else the transaction writes to the key.
//!
//! Where this differs from Fabric, Fabric's peer stops: metadata written to a key that an
//! earlier transaction of the block deleted does nothing here, a range without a version in a
//! read counts as changed, and a Merkle summary of an impossible degree is a bad set.

use std::collections::HashMap;

use bytes::Bytes;
use weft_protos::kvrwset::range_query_info::ReadsInfo;
use weft_protos::kvrwset::{
    KvMetadataEntry, KvRead, KvReadHash, QueryReadsMerkleSummary, RangeQueryInfo,
};
use weft_types::{BlockNumber, ValidationCode};

use crate::Version;
use crate::rwset::{NsRwSet, RangeReads, RangeResults, TxRwSet, is_delete, is_hash_delete};
use crate::state::overlay::{Pager, View};
use crate::state::{StateEntry, StateError, StateReader, VersionedValue, metadata};
use crate::updates::{HistoryWrite, Update, UpdateBatch};

/// How many entries of a range are read at once.
const CHUNK: usize = 64;

/// A transaction of the block, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// What the checks before this one came to; only a valid transaction is looked at.
    pub code: ValidationCode,
    /// What it read and wrote; `None` where it has no effect on the state.
    pub rwset: Option<&'a TxRwSet>,
    /// Whether the writes go into the history of their keys: endorsed transactions' do, those
    /// that the peer derives from a configuration do not.
    pub in_history: bool,
}

/// What became of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validated {
    /// The code of every transaction, in order.
    pub codes: Vec<ValidationCode>,
    /// What the valid transactions change.
    pub updates: UpdateBatch,
    /// Which public keys they wrote, in order.
    pub history: Vec<HistoryWrite>,
}

/// Validates a block's transactions on `state`, which must be the state after the block before
/// (see [`crate::state::OverlayState`] where that is not stored yet).
///
/// Pure: the same input gives the same codes and updates on every peer.
///
/// # Errors
/// Fails where the state cannot be read; a transaction is never invalid for that reason.
pub fn validate(
    block: BlockNumber,
    transactions: &[Transaction<'_>],
    state: &dyn StateReader,
) -> Result<Validated, StateError> {
    let committed = Committed::load(state, transactions)?;
    let mut validated = Validated::default();
    for (place, transaction) in (0u64..).zip(transactions) {
        let code = match (transaction.code, transaction.rwset) {
            (ValidationCode::Valid, Some(rwset)) => check(rwset, &committed, &validated.updates)?,
            (code, _) => code,
        };
        validated.codes.push(code);
        if let (ValidationCode::Valid, Some(rwset)) = (code, transaction.rwset) {
            let version = Version::new(block, place);
            apply(rwset, version, &committed, &mut validated.updates)?;
            if transaction.in_history {
                validated.history.extend(history(rwset, version));
            }
        }
    }
    Ok(validated)
}

fn history(rwset: &TxRwSet, version: Version) -> impl Iterator<Item = HistoryWrite> {
    rwset.namespaces.iter().flat_map(move |part| {
        part.public.writes.iter().map(move |write| HistoryWrite {
            namespace: part.namespace.clone(),
            key: write.key.clone(),
            version,
        })
    })
}

/// The state before the block, with every public key that the block reads or writes by name
/// loaded at once.
struct Committed<'a> {
    state: &'a dyn StateReader,
    loaded: HashMap<&'a str, HashMap<&'a str, Option<VersionedValue>>>,
}

impl<'a> Committed<'a> {
    fn load(
        state: &'a dyn StateReader,
        transactions: &[Transaction<'a>],
    ) -> Result<Self, StateError> {
        let mut loaded: HashMap<&str, HashMap<&str, Option<VersionedValue>>> = HashMap::new();
        let valid = transactions.iter().filter(|tx| tx.code == ValidationCode::Valid);
        for part in valid.filter_map(|tx| tx.rwset).flat_map(|rwset| &rwset.namespaces) {
            let keys = loaded.entry(&part.namespace).or_default();
            let NsRwSet { public, .. } = part;
            keys.extend(public.reads.iter().map(|read| (read.key.as_str(), None)));
            keys.extend(public.writes.iter().map(|write| (write.key.as_str(), None)));
            keys.extend(public.metadata_writes.iter().map(|write| (write.key.as_str(), None)));
        }
        for (namespace, keys) in &mut loaded {
            let mut names: Vec<&str> = keys.keys().copied().collect();
            names.sort_unstable();
            let values = state.get_many(namespace, &names)?;
            keys.extend(names.into_iter().zip(values));
        }
        Ok(Self { state, loaded })
    }

    fn get(&self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, StateError> {
        match self.loaded.get(namespace).and_then(|keys| keys.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.state.get(namespace, key),
        }
    }

    fn version(&self, namespace: &str, key: &str) -> Result<Option<Version>, StateError> {
        match self.loaded.get(namespace).and_then(|keys| keys.get(key)) {
            Some(value) => Ok(value.as_ref().map(|found| found.version)),
            None => self.state.version(namespace, key),
        }
    }
}

fn check(
    rwset: &TxRwSet,
    committed: &Committed<'_>,
    updates: &UpdateBatch,
) -> Result<ValidationCode, StateError> {
    for part in &rwset.namespaces {
        for read in &part.public.reads {
            if !read_holds(&part.namespace, read, committed, updates)? {
                return Ok(ValidationCode::MvccReadConflict);
            }
        }
        for range in &part.public.range_queries_info {
            match range_holds(&part.namespace, range, committed.state, updates)? {
                ValidationCode::Valid => {}
                code => return Ok(code),
            }
        }
        for collection in &part.collections {
            let name = (part.namespace.as_str(), collection.collection.as_str());
            for read in &collection.hashed.hashed_reads {
                if !hash_read_holds(name, read, committed.state, updates)? {
                    return Ok(ValidationCode::MvccReadConflict);
                }
            }
        }
    }
    Ok(ValidationCode::Valid)
}

fn read_holds(
    namespace: &str,
    read: &KvRead,
    committed: &Committed<'_>,
    updates: &UpdateBatch,
) -> Result<bool, StateError> {
    if updates.get(namespace, &read.key).is_some() {
        return Ok(false);
    }
    let version = read.version.as_ref().map(Version::from_proto);
    Ok(committed.version(namespace, &read.key)? == version)
}

fn hash_read_holds(
    (namespace, collection): (&str, &str),
    read: &KvReadHash,
    state: &dyn StateReader,
    updates: &UpdateBatch,
) -> Result<bool, StateError> {
    if updates.get_hash(namespace, collection, &read.key_hash).is_some() {
        return Ok(false);
    }
    let version = read.version.as_ref().map(Version::from_proto);
    let found = state.get_hash(namespace, collection, &read.key_hash)?;
    Ok(found.map(|found| found.version) == version)
}

/// Valid where the range still gives what was read; else the code that says why not.
fn range_holds(
    namespace: &str,
    range: &RangeQueryInfo,
    state: &dyn StateReader,
    updates: &UpdateBatch,
) -> Result<ValidationCode, StateError> {
    let view = View { base: state, layers: vec![updates] };
    let mut current = CurrentRange::new(&view, namespace, range);
    let holds = match &range.reads_info {
        Some(ReadsInfo::ReadsMerkleHashes(summary)) => {
            let Ok(results) = RangeResults::new(summary.max_degree) else {
                return Ok(ValidationCode::BadRwset);
            };
            summary_holds(summary, results, &mut current)?
        }
        Some(ReadsInfo::RawReads(reads)) => reads_hold(&reads.kv_reads, &mut current)?,
        None => reads_hold(&[], &mut current)?,
    };
    Ok(if holds { ValidationCode::Valid } else { ValidationCode::PhantomReadConflict })
}

/// What a recorded range gives now. A reader that did not go to the end has its last key as the
/// recorded end, so that key belongs to the range.
struct CurrentRange<'a> {
    view: &'a View<'a>,
    namespace: &'a str,
    inside: Pager<'a>,
    /// The end, where it belongs to the range and is not served yet.
    end: Option<&'a str>,
}

impl<'a> CurrentRange<'a> {
    fn new(view: &'a View<'a>, namespace: &'a str, range: &'a RangeQueryInfo) -> Self {
        let end = range.end_key.as_str();
        let inside = Pager::new(view, namespace, &range.start_key, end, CHUNK);
        Self { view, namespace, inside, end: (!range.itr_exhausted).then_some(end) }
    }

    fn next(&mut self) -> Result<Option<KvRead>, StateError> {
        if let Some(entry) = self.inside.next()? {
            return Ok(Some(kv_read(entry)));
        }
        let Some(end) = self.end.take() else { return Ok(None) };
        let found = self.view.get(self.namespace, end)?;
        Ok(found.map(|found| kv_read((end.to_owned(), found))))
    }
}

fn kv_read((key, found): StateEntry) -> KvRead {
    KvRead { key, version: Some(found.version.to_proto()) }
}

fn reads_hold(reads: &[KvRead], current: &mut CurrentRange<'_>) -> Result<bool, StateError> {
    for read in reads {
        if current.next()?.as_ref() != Some(read) {
            return Ok(false);
        }
    }
    Ok(current.next()?.is_none())
}

/// Builds the summary anew and stops at the first hash that differs, so that a changed range is
/// not read to its end.
fn summary_holds(
    summary: &QueryReadsMerkleSummary,
    mut results: RangeResults,
    current: &mut CurrentRange<'_>,
) -> Result<bool, StateError> {
    let recorded = &summary.max_level_hashes;
    let mut matched = 0;
    while let Some(read) = current.next()? {
        results.add(read);
        let (level, hashes) = results.top();
        if level > summary.max_level {
            return Ok(false);
        }
        if level < summary.max_level || hashes.len() <= matched {
            continue;
        }
        if hashes.len() > recorded.len() || hashes[matched] != recorded[matched] {
            return Ok(false);
        }
        matched += 1;
    }
    Ok(results.finish() == RangeReads::Summary(summary.clone()))
}

/// What a transaction does to one key. The marks count up for every write of a kind, as in
/// Fabric (validation/tx_ops.go), so that a set which names a key twice ends the same here.
#[derive(Default)]
struct KeyChange {
    marks: u8,
    value: Bytes,
    metadata: Bytes,
}

const VALUE: u8 = 1;
const METADATA: u8 = 2;
const NO_METADATA: u8 = 4;
const DELETE: u8 = 8;

impl KeyChange {
    fn mark(&mut self, mark: u8) {
        self.marks = self.marks.wrapping_add(mark);
    }

    fn has(&self, mark: u8) -> bool {
        self.marks & mark == mark
    }

    fn write(&mut self, delete: bool, value: &Bytes) {
        if delete {
            self.mark(DELETE);
        } else {
            self.mark(VALUE);
            self.value.clone_from(value);
        }
    }

    fn write_metadata(&mut self, entries: &[KvMetadataEntry]) {
        if entries.is_empty() {
            self.mark(NO_METADATA);
        } else {
            self.mark(METADATA);
            self.metadata = metadata::encode(entries);
        }
    }

    /// The update, with what the transaction leaves as it is taken from `latest`; `None` where
    /// there is nothing to update.
    fn update(
        self,
        version: Version,
        latest: impl FnOnce() -> Result<Option<VersionedValue>, StateError>,
    ) -> Result<Option<Update>, StateError> {
        if self.has(DELETE) {
            return Ok(Some(Update { value: None, metadata: Bytes::new(), version }));
        }
        let Self { marks, value, metadata } = &self;
        if self.has(VALUE) && (self.has(METADATA) || self.has(NO_METADATA)) {
            let (value, metadata) = (Some(value.clone()), metadata.clone());
            return Ok(Some(Update { value, metadata, version }));
        }
        let latest = latest()?;
        if marks & !VALUE == 0 {
            let metadata = latest.map(|latest| latest.metadata).unwrap_or_default();
            return Ok(Some(Update { value: Some(value.clone()), metadata, version }));
        }
        let metadata = metadata.clone();
        Ok(latest.map(|latest| Update { value: Some(latest.value), metadata, version }))
    }
}

fn apply(
    rwset: &TxRwSet,
    version: Version,
    committed: &Committed<'_>,
    updates: &mut UpdateBatch,
) -> Result<(), StateError> {
    let mut public: HashMap<(&str, &str), KeyChange> = HashMap::new();
    let mut hashed: HashMap<(&str, &str, &Bytes), KeyChange> = HashMap::new();
    for part in &rwset.namespaces {
        let namespace = part.namespace.as_str();
        for write in &part.public.writes {
            let change = public.entry((namespace, &write.key)).or_default();
            change.write(is_delete(write), &write.value);
        }
        for write in &part.public.metadata_writes {
            public.entry((namespace, &write.key)).or_default().write_metadata(&write.entries);
        }
        for collection in &part.collections {
            let name = collection.collection.as_str();
            for write in &collection.hashed.hashed_writes {
                let change = hashed.entry((namespace, name, &write.key_hash)).or_default();
                change.write(is_hash_delete(write), &write.value_hash);
            }
            for write in &collection.hashed.metadata_writes {
                let change = hashed.entry((namespace, name, &write.key_hash)).or_default();
                change.write_metadata(&write.entries);
            }
        }
    }
    for ((namespace, key), change) in public {
        let latest = || match updates.get(namespace, key) {
            Some(update) => Ok(update.to_value()),
            None => committed.get(namespace, key),
        };
        if let Some(update) = change.update(version, latest)? {
            updates.put(namespace, key, update);
        }
    }
    for ((namespace, collection, key), change) in hashed {
        let latest = || match updates.get_hash(namespace, collection, key) {
            Some(update) => Ok(update.to_value()),
            None => committed.state.get_hash(namespace, collection, key),
        };
        if let Some(update) = change.update(version, latest)? {
            updates.put_hash(namespace, collection, key.clone(), update);
        }
    }
    Ok(())
}
