//! Hashes whose time is over (Fabric: core/ledger/kvledger/txmgmt/pvtstatepurgemgmt).
//!
//! A collection's data lives for a number of blocks. What block B wrote goes with the commit of
//! the block that [`ends_with`] names, unless it was written again since: block B + n + 1 itself
//! is validated with it, the next block without. All peers do this alike, members or not, as reads
//! of hashes are validated; it is not part of what commit hashes cover.

use std::collections::BTreeSet;

use weft_types::BlockNumber;

use super::keys::{Ending, Expiry, KeyError, ends_with, place_of};
use crate::Version;
use crate::kv::column::EXPIRY;
use crate::kv::{Direction, KeyRange, KvError, KvRead};
use crate::state::{StateError, StateReader};
use crate::updates::{Update, UpdateBatch};

/// What the hashes that a block writes add to the column [`EXPIRY`]: keys of it. `block_to_live`
/// tells of a namespace and a collection for how many blocks its data lives.
#[must_use]
pub fn expiry_of_hashes(
    updates: &UpdateBatch,
    block: BlockNumber,
    block_to_live: impl Fn(&str, &str) -> u64,
) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    for (namespace, updates) in updates.namespaces() {
        for (collection, hashes) in &updates.collections {
            let Some(at) = ends_with(block, block_to_live(namespace, collection)) else { continue };
            for (key_hash, update) in hashes.iter().filter(|(_, update)| update.value.is_some()) {
                let (block, place) = (update.version.block, place_of(update.version));
                let what = Ending::Hash(key_hash);
                keys.insert(Expiry { at, namespace, collection, block, place, what }.encode());
            }
        }
    }
    keys
}

/// The keys of the column [`EXPIRY`] that end with block `at`.
///
/// # Errors
/// Fails where the store cannot be read.
pub fn ending_with(store: &dyn KvRead, at: BlockNumber) -> Result<Vec<Vec<u8>>, KvError> {
    let range = KeyRange::prefix(Expiry::prefix(at).to_vec());
    let found = store.scan(EXPIRY, &range, Direction::Forward, usize::MAX)?;
    Ok(found.into_iter().map(|(key, _)| key.to_vec()).collect())
}

/// The hashes that end with block `at`, as deletions: those of `ending` (keys of the column
/// [`EXPIRY`]) that were not written again, be it by the block itself, whose `updates` these are.
/// `state` is the state before the block.
///
/// # Errors
/// Fails where the state cannot be read.
pub fn expired_hashes<'a>(
    at: BlockNumber,
    ending: impl IntoIterator<Item = &'a [u8]>,
    updates: &UpdateBatch,
    state: &dyn StateReader,
) -> Result<UpdateBatch, ExpiryError> {
    let mut expired = UpdateBatch::new();
    for stored in ending {
        let expiry = Expiry::decode(stored).map_err(ExpiryError::Key)?;
        let (namespace, collection) = (expiry.namespace, expiry.collection);
        let Ending::Hash(key_hash) = expiry.what else { continue };
        if updates.get_hash(namespace, collection, key_hash).is_some() {
            continue;
        }
        let found = state.get_hash(namespace, collection, key_hash).map_err(ExpiryError::State)?;
        if found.is_some_and(|found| found.version == expiry.version()) {
            let (metadata, version) = (Default::default(), Version::new(at, 0));
            let delete = Update { value: None, metadata, version };
            expired.put_hash(namespace, collection, key_hash.to_vec().into(), delete);
        }
    }
    Ok(expired)
}

/// It cannot be told what ends.
#[derive(Debug, thiserror::Error)]
pub enum ExpiryError {
    /// A stored key is not in its form.
    #[error("failed to read what ends with a block")]
    Key(#[source] KeyError),
    /// The state cannot be read.
    #[error("failed to read a hash that ends with a block")]
    State(#[source] StateError),
}
