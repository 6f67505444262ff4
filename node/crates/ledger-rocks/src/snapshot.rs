//! Snapshots that keep their database open, so that they can be handed around freely.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ReadOptions, Snapshot};
use self_cell::self_cell;
use weft_ledger::kv::{Column, Direction, Entry, KeyRange, KvError, KvRead};

use crate::store::Database;

self_cell!(
    /// A database with a snapshot of it.
    struct Held {
        owner: Arc<Database>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// A view of a database as it was.
pub(crate) struct RocksSnapshot {
    held: Held,
}

impl RocksSnapshot {
    pub(crate) fn take(database: Arc<Database>) -> Self {
        Self { held: Held::new(database, |database| database.db.snapshot()) }
    }

    fn database(&self) -> &Database {
        self.held.borrow_owner()
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.held.borrow_dependent());
        options
    }
}

impl KvRead for RocksSnapshot {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.database().get(column, key, &self.options())
    }

    fn multi_get(&self, column: Column, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        self.database().multi_get(column, keys, &self.options())
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        self.database().scan(column, range, direction, limit, self.options())
    }
}
