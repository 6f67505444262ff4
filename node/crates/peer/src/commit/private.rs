//! Private values from endorsement to commit: those of transactions that this peer endorsed, and
//! those that other endorsers sent.
//!
//! The chain holds hashes only. Values are kept here ([`keep`]); when the transaction turns out
//! valid, they are stored in the same write as its block, after a check against the hashes
//! (`values`); when it does not, they are dropped. What never comes back is dropped after
//! [`RETENTION`] blocks (Fabric: core/transientstore, `transientBlockRetention`).
//!
//! Key in the column: transaction id (u16 length, text), height at endorsement (u64), SHA-256 of the
//! value (32 bytes; earlier versions left it out), MSP id of the organization whose peer sent it
//! (text; empty for this peer's own endorsements, and in earlier versions). So what is kept for
//! different collections of a transaction, or of different simulations of it, lies side by side.
//! Value: the encoded `rwset.TxPvtReadWriteSet`.
//!
//! All records of a transaction are looked at when it is committed, and the hash in its block tells
//! which one is right. How many there can be is bounded for each organization that sends them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::Ledger;
use weft_ledger::kv::column::TRANSIENT;
use weft_ledger::kv::{Batch, Direction, Durability, Entries, KeyRange, KvError};
use weft_ledger::rwset::TxRwSet;
use weft_protos::ext::decode;
use weft_protos::rwset::tx_read_write_set::DataModel;
use weft_protos::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use weft_types::{BlockNumber, MspId};

/// Blocks after which values of a transaction that did not come are dropped. Fabric's default.
pub const RETENTION: u64 = 1000;
/// Octets of a height and of a digest in a key.
const HEIGHT: usize = 8;
const DIGEST: usize = 32;
/// Keys looked at in one go.
const CHUNK: usize = 256;
/// Records of a transaction read in one go. They can be large.
const RECORDS: usize = 4;
/// Different writes of one transaction to one collection that are kept of what one organization
/// sends: a proposal can have been simulated more than once, but not any number of times.
const MAX_VERSIONS: usize = 8;
/// Records of one transaction that are kept of what one organization sends.
const MAX_RECORDS: usize = 256;

/// Where private writes belong.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The transaction.
    pub tx_id: &'a str,
    /// The chaincode.
    pub namespace: &'a str,
    /// The collection.
    pub collection: &'a str,
}

/// What came of writes that another peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// They are kept.
    Kept,
    /// They were here before.
    Known,
    /// The organization has sent too many others.
    TooMany,
}

/// Keeps private values of this peer's own endorsement until their transaction is committed.
///
/// # Errors
/// Fails when the store cannot write.
pub fn keep(ledger: &Ledger, tx_id: &str, values: &TxPvtReadWriteSet) -> Result<(), KvError> {
    put(ledger, tx_id, values, "")
}

/// Keeps private writes that a peer of the organization `sender` sent, until their transaction is
/// committed. How many are kept is bounded for each organization, so that what one sends keeps
/// nothing of another's out. Calls must not overlap.
///
/// # Errors
/// Fails when the store cannot be read or write.
pub fn keep_pushed(
    ledger: &Ledger,
    slot: Slot<'_>,
    writes: &Bytes,
    sender: &MspId,
) -> Result<Kept, KvError> {
    let (mut of_sender, mut versions) = (0, 0);
    for record in records(ledger, slot.tx_id) {
        let record = record?;
        let is_sender = record.sender() == sender.as_str();
        of_sender += usize::from(is_sender);
        for held in record.parts(slot.namespace, slot.collection) {
            if held == writes {
                return Ok(Kept::Known);
            }
            versions += usize::from(is_sender);
        }
    }
    if versions >= MAX_VERSIONS || of_sender >= MAX_RECORDS {
        return Ok(Kept::TooMany);
    }
    put(ledger, slot.tx_id, &values(slot, writes), sender.as_str())?;
    Ok(Kept::Kept)
}

fn put(
    ledger: &Ledger,
    tx_id: &str,
    values: &TxPvtReadWriteSet,
    sender: &str,
) -> Result<(), KvError> {
    let value = values.encode_to_vec();
    let mut key = prefix(tx_id);
    key.extend_from_slice(&ledger.height().to_be_bytes());
    key.extend_from_slice(&weft_crypto::sha256(&value));
    key.extend_from_slice(sender.as_bytes());
    let mut batch = Batch::new();
    batch.put(TRANSIENT, key, value);
    // The client can have the transaction endorsed again if this is lost with the machine.
    ledger.kv().write(batch, Durability::Buffered)
}

/// One collection's writes as the store keeps them.
fn values(slot: Slot<'_>, writes: &Bytes) -> TxPvtReadWriteSet {
    let collection = CollectionPvtReadWriteSet {
        collection_name: slot.collection.to_owned(),
        rwset: writes.clone(),
    };
    let namespace = NsPvtReadWriteSet {
        namespace: slot.namespace.to_owned(),
        collection_pvt_rwset: vec![collection],
    };
    TxPvtReadWriteSet { data_model: DataModel::Kv.into(), ns_pvt_rwset: vec![namespace] }
}

/// The private writes of a transaction in a collection that wait for its commit, each as an encoded
/// `kvrwset.KVRWSet`: there can be several, as a proposal can have been simulated more than once.
/// First the newest of this peer's own endorsements and of what each organization sent, then the
/// second ones, and so on, while they fit into `limit` bytes; the first one counts as fitting.
///
/// # Errors
/// Fails when the store cannot be read.
pub fn held(ledger: &Ledger, slot: Slot<'_>, limit: usize) -> Result<Vec<Bytes>, KvError> {
    let mut by_sender: BTreeMap<String, Shelf> = BTreeMap::new();
    for record in records(ledger, slot.tx_id) {
        let record = record?;
        for writes in record.parts(slot.namespace, slot.collection) {
            by_sender.entry(record.sender().to_owned()).or_default().add(writes, limit);
        }
    }
    let shelves = by_sender.into_values();
    let mut all: Vec<_> = shelves.flat_map(|shelf| shelf.writes.into_iter().enumerate()).collect();
    // Stable: of equal ranks this peer's own, which name no sender, come first.
    all.sort_by_key(|(rank, _)| *rank);
    let mut found = Shelf::default();
    all.iter().for_each(|(_, writes)| found.add(writes, limit));
    Ok(found.writes)
}

/// Different writes of limited size together.
#[derive(Default)]
struct Shelf {
    writes: Vec<Bytes>,
    bytes: usize,
}

impl Shelf {
    fn add(&mut self, writes: &Bytes, limit: usize) {
        let bytes = self.bytes.saturating_add(writes.len());
        if self.writes.contains(writes) || !(self.writes.is_empty() || bytes <= limit) {
            return;
        }
        self.bytes = bytes;
        self.writes.push(writes.clone());
    }
}

/// What is kept in one go.
pub(crate) struct Record {
    pub(crate) key: Bytes,
    /// What can be read of it.
    values: Option<TxPvtReadWriteSet>,
}

impl Record {
    /// The organization that sent it; empty for this peer's own, and for what earlier versions kept.
    fn sender(&self) -> &str {
        let rest = after_height(&self.key).and_then(|rest| rest.get(DIGEST..));
        rest.and_then(|sender| std::str::from_utf8(sender).ok()).unwrap_or_default()
    }

    /// The writes of a collection.
    pub(crate) fn parts<'a>(
        &'a self,
        namespace: &'a str,
        collection: &'a str,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.values.iter().flat_map(move |values| parts(values, namespace, collection))
    }
}

/// All records of a transaction, newest first, read a few at a time.
pub(crate) fn records<'a>(
    ledger: &'a Ledger,
    tx_id: &str,
) -> impl Iterator<Item = Result<Record, KvError>> + use<'a> {
    let (kv, range) = (ledger.kv().as_ref(), KeyRange::prefix(prefix(tx_id)));
    let entries = Entries::new(kv, TRANSIENT, range, Direction::Reverse, RECORDS);
    let read = |value| decode::<TxPvtReadWriteSet>("private values", value).ok();
    entries.map(move |entry| entry.map(|(key, value)| Record { key, values: read(value) }))
}

/// The writes of a collection in a record.
fn parts<'a>(
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
    let height = after_id(key)?;
    height.first_chunk::<HEIGHT>().map(|bytes| u64::from_be_bytes(*bytes))
}

fn after_id(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first_chunk::<2>()?;
    rest.get(usize::from(u16::from_be_bytes(*length))..)
}

fn after_height(key: &[u8]) -> Option<&[u8]> {
    after_id(key)?.get(HEIGHT..)
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

    fn held(ledger: &Ledger, tx_id: &str, namespace: &str, collection: &str) -> Vec<Bytes> {
        super::held(ledger, Slot { tx_id, namespace, collection }, usize::MAX).unwrap()
    }

    fn push(ledger: &Ledger, collection: &str, writes: &'static str, sender: &str) -> Kept {
        let slot = Slot { tx_id: "tx", namespace: "cc", collection };
        keep_pushed(ledger, slot, &writes.into(), &MspId::new(sender).unwrap()).unwrap()
    }

    /// A digest with which a record comes before most others.
    fn junk(number: u16) -> [u8; 32] {
        let mut digest = [0xff; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn what_is_kept_lies_side_by_side() {
        let ledger = ledger();
        for (collection, writes) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1")] {
            keep(&ledger, "tx", &values(collection, writes)).unwrap();
        }
        keep(&ledger, "tx2", &values("a", "4")).unwrap();
        assert_eq!(records(&ledger, "tx").count(), 3);
        let mut found = held(&ledger, "tx", "cc", "a");
        found.sort();
        assert_eq!(found, ["1", "3"]);
        assert_eq!(held(&ledger, "tx", "cc", "b"), ["2"]);
        assert!(held(&ledger, "tx", "other", "b").is_empty());
        assert!(held(&ledger, "t", "cc", "a").is_empty());
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let ledger = ledger();
        put(&ledger, "tx", 7, &[]);
        keep(&ledger, "tx", &values("coll", "new")).unwrap();
        assert_eq!(held(&ledger, "tx", "cc", "coll"), ["old", "new"], "newest first");
        let heights = records(&ledger, "tx").map(|record| height_of(&record.unwrap().key));
        assert_eq!(heights.collect::<Vec<_>>(), [Some(7), Some(0)]);
    }

    #[test]
    fn nothing_is_hidden_behind_any_number_of_others() {
        let ledger = ledger();
        keep(&ledger, "tx", &values("coll", "right")).unwrap();
        (0..1000).for_each(|number| put(&ledger, "tx", 7, &junk(number)));
        assert_eq!(records(&ledger, "tx").count(), 1001);
        assert!(held(&ledger, "tx", "cc", "coll").contains(&"right".into()));
    }

    #[test]
    fn each_organization_that_sends_has_its_own_room() {
        let ledger = ledger();
        let some = ["0", "1", "2", "3", "4", "5", "6", "7"];
        some.iter().for_each(|junk| assert_eq!(push(&ledger, "a", junk, "One"), Kept::Kept));
        assert_eq!(push(&ledger, "a", "8", "One"), Kept::TooMany);
        assert_eq!(push(&ledger, "a", "7", "One"), Kept::Known);
        assert_eq!(push(&ledger, "b", "8", "One"), Kept::Kept);
        assert_eq!(push(&ledger, "a", "right", "Two"), Kept::Kept);
        keep(&ledger, "tx", &values("a", "own")).unwrap();
        let found = held(&ledger, "tx", "cc", "a");
        assert_eq!(found.len(), 10);
        assert_eq!([&found[0], &found[2]], ["own", "right"], "the first of each comes first");
        let slot = Slot { tx_id: "tx", namespace: "cc", collection: "a" };
        assert_eq!(super::held(&ledger, slot, 0).unwrap(), ["own"]);
        assert_eq!(super::held(&ledger, slot, 9).unwrap().len(), 3, "own, one, right");
        // However many collections there are.
        (0..1000).for_each(|number| {
            let key = [junk(number).to_vec(), b"Three".to_vec()].concat();
            put(&ledger, "tx", 0, &key);
        });
        assert_eq!(push(&ledger, "c", "x", "Three"), Kept::TooMany);
        assert_eq!(push(&ledger, "c", "x", "Two"), Kept::Kept);
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
