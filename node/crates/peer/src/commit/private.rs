//! Private values from endorsement to commit: those of transactions that this peer endorsed, and
//! those that other endorsers sent.
//!
//! The chain holds hashes only. Values are kept here ([`keep`]); when the transaction turns out
//! valid, they are stored in the same write as its block, after a check against the hashes
//! (`values`); when it does not, they are dropped. What never comes back is dropped after
//! [`RETENTION`] blocks (Fabric: core/transientstore, `transientBlockRetention`).
//!
//! Key in the column: transaction id (u16 length, text), height at endorsement (u64), SHA-256 of the
//! value (32 bytes; earlier versions left it out). So what is kept for different collections of a
//! transaction, or of different simulations of it, lies side by side. Value: the encoded
//! `rwset.TxPvtReadWriteSet`.

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::Ledger;
use weft_ledger::kv::column::TRANSIENT;
use weft_ledger::kv::{Batch, Direction, Durability, Entries, KeyRange, KvError};
use weft_ledger::rwset::TxRwSet;
use weft_protos::ext::decode;
use weft_protos::rwset::TxPvtReadWriteSet;
use weft_types::BlockNumber;

/// Blocks after which values of a transaction that did not come are dropped. Fabric's default.
pub const RETENTION: u64 = 1000;
/// Records looked at in one go.
const CHUNK: usize = 256;

/// Keeps private values until their transaction is committed.
///
/// # Errors
/// Fails when the store cannot write.
pub fn keep(ledger: &Ledger, tx_id: &str, values: &TxPvtReadWriteSet) -> Result<(), KvError> {
    let mut key = prefix(tx_id);
    key.extend_from_slice(&ledger.height().to_be_bytes());
    let value = values.encode_to_vec();
    key.extend_from_slice(&weft_crypto::sha256(&value));
    let mut batch = Batch::new();
    batch.put(TRANSIENT, key, value);
    // The client can have the transaction endorsed again if this is lost with the machine.
    ledger.kv().write(batch, Durability::Buffered)
}

/// The private writes of a transaction in a collection that wait for its commit, newest first,
/// each as an encoded `kvrwset.KVRWSet`. There can be several: a proposal can have been simulated
/// more than once.
///
/// # Errors
/// Fails when the store cannot be read.
pub fn held(
    ledger: &Ledger,
    tx_id: &str,
    namespace: &str,
    collection: &str,
) -> Result<Vec<Bytes>, KvError> {
    let mut found: Vec<Bytes> = Vec::new();
    for values in records(ledger, tx_id)?.iter().filter_map(|(_, values)| values.as_ref()) {
        for writes in parts(values, namespace, collection) {
            if !found.contains(writes) {
                found.push(writes.clone());
            }
        }
    }
    Ok(found)
}

/// All records of a transaction, newest first: their keys, and what can be read of them.
pub(crate) fn records(
    ledger: &Ledger,
    tx_id: &str,
) -> Result<Vec<(Bytes, Option<TxPvtReadWriteSet>)>, KvError> {
    let range = KeyRange::prefix(prefix(tx_id));
    let records = ledger.kv().scan(TRANSIENT, &range, Direction::Reverse, CHUNK)?;
    let read = |value| decode::<TxPvtReadWriteSet>("private values", value).ok();
    Ok(records.into_iter().map(|(key, value)| (key, read(value))).collect())
}

/// The writes of a collection in a record.
pub(crate) fn parts<'a>(
    values: &'a TxPvtReadWriteSet,
    namespace: &'a str,
    collection: &'a str,
) -> impl Iterator<Item = &'a Bytes> {
    let parts = values.ns_pvt_rwset.iter().filter(move |part| part.namespace == namespace);
    let parts = parts.flat_map(|part| &part.collection_pvt_rwset);
    parts.filter(move |part| part.collection_name == collection).map(|part| &part.rwset)
}

/// Drops what is too old, now and then.
pub(crate) fn drop_old(
    ledger: &Ledger,
    number: BlockNumber,
    batch: &mut Batch,
) -> Result<(), KvError> {
    if number == 0 || !number.is_multiple_of(RETENTION) {
        return Ok(());
    }
    let kv = ledger.kv().as_ref();
    for record in Entries::new(kv, TRANSIENT, KeyRange::all(), Direction::Forward, CHUNK) {
        let (key, _) = record?;
        if height_of(&key).is_none_or(|height| height.saturating_add(RETENTION) <= number) {
            batch.delete(TRANSIENT, key);
        }
    }
    Ok(())
}

/// The height at endorsement in a key; `None` where it is no key.
fn height_of(key: &[u8]) -> Option<u64> {
    let (length, rest) = key.split_first_chunk::<2>()?;
    let height = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    height.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

fn prefix(tx_id: &str) -> Vec<u8> {
    // Longer ids are not ids; they only have to stay apart from real ones.
    let text: &[u8] = tx_id.as_bytes().get(..tx_id.len().min(256)).unwrap_or_default();
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().as_slice(), text].concat()
}

/// Whether a transaction writes to collections.
pub(crate) fn has_private_writes(rwset: &TxRwSet) -> bool {
    let mut parts = rwset.namespaces.iter().flat_map(|part| &part.collections);
    parts.any(|part| !part.private_hash.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use weft_ledger::kv::memory::MemoryKv;
    use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet};
    use weft_types::ChannelId;

    use super::*;

    fn ledger() -> Ledger {
        Ledger::open(Arc::new(MemoryKv::new()), ChannelId::new("supply").unwrap()).unwrap()
    }

    fn values(collection: &str, writes: &'static str) -> TxPvtReadWriteSet {
        let (collection_name, rwset) = (collection.to_owned(), writes.into());
        let part = CollectionPvtReadWriteSet { collection_name, rwset };
        let namespace = "cc".to_owned();
        let part = NsPvtReadWriteSet { namespace, collection_pvt_rwset: vec![part] };
        TxPvtReadWriteSet { ns_pvt_rwset: vec![part], ..Default::default() }
    }

    /// A record at a height, as earlier versions kept it or as this one does.
    fn put(ledger: &Ledger, tx_id: &str, height: u64, digest: &[u8]) {
        let key = [prefix(tx_id), height.to_be_bytes().to_vec(), digest.to_vec()].concat();
        let mut batch = Batch::new();
        batch.put(TRANSIENT, key, values("coll", "old").encode_to_vec());
        ledger.kv().write(batch, Durability::Buffered).unwrap();
    }

    #[test]
    fn what_is_kept_lies_side_by_side() {
        let ledger = ledger();
        for (collection, writes) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1")] {
            keep(&ledger, "tx", &values(collection, writes)).unwrap();
        }
        keep(&ledger, "tx2", &values("a", "4")).unwrap();
        assert_eq!(records(&ledger, "tx").unwrap().len(), 3);
        let mut found = held(&ledger, "tx", "cc", "a").unwrap();
        found.sort();
        assert_eq!(found, ["1", "3"]);
        assert_eq!(held(&ledger, "tx", "cc", "b").unwrap(), ["2"]);
        assert!(held(&ledger, "tx", "other", "b").unwrap().is_empty());
        assert!(held(&ledger, "t", "cc", "a").unwrap().is_empty());
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let ledger = ledger();
        put(&ledger, "tx", 7, &[]);
        keep(&ledger, "tx", &values("coll", "new")).unwrap();
        assert_eq!(held(&ledger, "tx", "cc", "coll").unwrap(), ["old", "new"], "newest first");
        let heights = records(&ledger, "tx").unwrap().into_iter().map(|(key, _)| height_of(&key));
        assert_eq!(heights.collect::<Vec<_>>(), [Some(7), Some(0)]);
    }

    #[test]
    fn what_never_came_is_dropped_in_the_end() {
        let ledger = ledger();
        put(&ledger, "old", 1000, &[0; 32]);
        put(&ledger, "older version", 1000, &[]);
        put(&ledger, "young", 1001, &[0xff; 32]);
        let drop = |number: u64| {
            let mut batch = Batch::new();
            drop_old(&ledger, number, &mut batch).unwrap();
            let left = batch.len();
            ledger.kv().write(batch, Durability::Buffered).unwrap();
            left
        };
        assert_eq!([drop(0), drop(1000), drop(1999), drop(2000), drop(3000)], [0, 0, 0, 2, 1]);
    }
}
