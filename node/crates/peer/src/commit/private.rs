//! Private values of transactions that this peer endorsed, from endorsement to commit.
//!
//! The chain holds hashes only. An endorser keeps the values here ([`keep`]); when the transaction
//! turns out valid, they go into the private state in the same write as its block, after a check
//! against the hashes; when it does not, they are dropped. What never comes back is dropped after
//! [`RETENTION`] blocks (Fabric: core/transientstore, `transientBlockRetention`).
//!
//! Key in the column: transaction id (str16), height at endorsement (u64). Value: the encoded
//! `rwset.TxPvtReadWriteSet`.

use bytes::Bytes;
use prost::Message as _;
use weft_ledger::kv::column::TRANSIENT;
use weft_ledger::kv::{Batch, Direction, Durability, KeyRange, KvError};
use weft_ledger::rwset::{TxRwSet, private_updates};
use weft_ledger::updates::PrivateUpdate;
use weft_ledger::{Ledger, Version};
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
    let mut batch = Batch::new();
    batch.put(TRANSIENT, key, values.encode_to_vec());
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
    let range = KeyRange::prefix(prefix(tx_id));
    let records = ledger.kv().scan(TRANSIENT, &range, Direction::Reverse, CHUNK)?;
    let mut found: Vec<Bytes> = Vec::new();
    for (_, value) in records {
        let Ok(values) = decode::<TxPvtReadWriteSet>("private values", value) else { continue };
        let parts = values.ns_pvt_rwset.into_iter().filter(|part| part.namespace == namespace);
        let parts = parts.flat_map(|part| part.collection_pvt_rwset);
        for part in parts.filter(|part| part.collection_name == collection) {
            if !found.contains(&part.rwset) {
                found.push(part.rwset);
            }
        }
    }
    Ok(found)
}

/// What one block does to private values.
#[derive(Debug, Default)]
pub(crate) struct PrivateWrites {
    pub(crate) updates: Vec<PrivateUpdate>,
    pub(crate) done: Batch,
}

impl PrivateWrites {
    /// Takes in a transaction of the block with writes to collections.
    pub(crate) fn add(
        &mut self,
        ledger: &Ledger,
        tx_id: &str,
        valid: Option<(&TxRwSet, Version)>,
    ) -> Result<(), KvError> {
        let range = KeyRange::prefix(prefix(tx_id));
        let mut matched = false;
        for (key, value) in ledger.kv().scan(TRANSIENT, &range, Direction::Reverse, CHUNK)? {
            self.done.delete(TRANSIENT, key);
            let Some((rwset, version)) = valid else { continue };
            let values = decode::<TxPvtReadWriteSet>("private values", value);
            // The same proposal can have been simulated twice with different results; the hashes
            // tell which of them became the transaction.
            let updates = values.ok().and_then(|v| private_updates(rwset, &v, version).ok());
            if let (false, Some(updates)) = (matched, updates) {
                self.updates.extend(updates);
                matched = true;
            }
        }
        Ok(())
    }

    /// Drops what is too old, now and then.
    pub(crate) fn expire(&mut self, ledger: &Ledger, number: BlockNumber) -> Result<(), KvError> {
        if number == 0 || !number.is_multiple_of(RETENTION) {
            return Ok(());
        }
        let records =
            ledger.kv().scan(TRANSIENT, &KeyRange::all(), Direction::Forward, usize::MAX)?;
        for (key, _) in records {
            let height = key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
            if height.is_none_or(|height| height.saturating_add(RETENTION) <= number) {
                self.done.delete(TRANSIENT, key);
            }
        }
        Ok(())
    }
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
