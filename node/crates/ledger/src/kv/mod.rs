//! The key-value store that a ledger is kept in: the trait, a store in memory, and the suite
//! that every store passes.
//!
//! A store is an ordered map from bytes to bytes for each [`Column`]. What a ledger relies on:
//! - a [`Batch`] is applied whole or not at all, also across a crash;
//! - a snapshot never changes, whatever is written after it;
//! - a synced write is on disk when [`Kv::write`] returns;
//! - after a failed write nothing more is acknowledged (fail-stop), because what reached the
//!   disk is then unknown.
//!
//! Errors of reads are never "no data".

mod batch;
pub mod column;
mod error;
pub mod memory;
mod range;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::sync::Arc;

use bytes::Bytes;

pub use batch::{Batch, Operation};
pub use column::Column;
pub use error::KvError;
pub use range::{Direction, Entries, KeyRange};

/// A key with its value.
pub type Entry = (Bytes, Bytes);

/// Whether a write must be on disk before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk (fsync) when the write returns. Everything written before is then on disk too.
    Synced,
    /// Handed to the operating system: survives the process, not a loss of power. After that a
    /// prefix of the buffered writes is there, never a later one without an earlier one.
    Buffered,
}

/// Reading, from the store's present or from a snapshot.
pub trait KvRead: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// Fails where the column was not opened, or the store cannot be read or is corrupt.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// As [`KvRead::get`].
    fn multi_get(&self, column: Column, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        keys.iter().map(|key| self.get(column, key)).collect()
    }

    /// The first `limit` entries of a range in the given direction.
    ///
    /// Use [`Entries`] to go through a range of unknown size.
    ///
    /// # Errors
    /// As [`KvRead::get`].
    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError>;
}

/// A store.
pub trait Kv: KvRead {
    /// A view of everything written so far, which later writes do not change.
    ///
    /// A snapshot keeps old versions from being cleaned up: let go of it soon.
    fn snapshot(&self) -> Arc<dyn KvRead>;

    /// Applies a batch, whole or not at all. Readers see all of it or nothing.
    ///
    /// # Errors
    /// Fails where a column was not opened or the batch cannot be stored. After a failure to
    /// store, every later write is refused with [`KvError::Stopped`]: open the store again.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError>;
}
