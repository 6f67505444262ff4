//! A store in memory, for tests and for nodes that may forget.
//!
//! Snapshots are persistent: every key keeps the versions that a living snapshot can still see,
//! so taking a snapshot costs nothing and a write touches only its own keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{
    Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead, Operation,
};

/// A point in the order of writes.
type Sequence = u64;

/// The versions of a key that somebody can still see, oldest first; `None` is "deleted".
type Versions = Vec<(Sequence, Option<Bytes>)>;

type Table = BTreeMap<Bytes, Versions>;

/// The store. Clones of the `Arc` share it; every column exists, empty, from the start.
#[derive(Default)]
pub struct MemoryKv {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tables: RwLock<Tables>,
    snapshots: Mutex<BTreeMap<Sequence, usize>>,
}

#[derive(Default)]
struct Tables {
    last: Sequence,
    columns: BTreeMap<&'static str, Table>,
}

impl MemoryKv {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Kv for MemoryKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        let tables = self.shared.tables.read();
        let at = tables.last;
        *self.shared.snapshots.lock().entry(at).or_default() += 1;
        Arc::new(MemorySnapshot { shared: Arc::clone(&self.shared), at })
    }

    fn write(&self, batch: Batch, _: Durability) -> Result<(), KvError> {
        let mut tables = self.shared.tables.write();
        let oldest = self.shared.snapshots.lock().keys().next().copied();
        tables.apply(batch, oldest);
        Ok(())
    }
}

impl KvRead for MemoryKv {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.shared.tables.read().get(column, key, Sequence::MAX))
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        Ok(self.shared.tables.read().scan(column, range, direction, limit, Sequence::MAX))
    }
}

/// A view of the store as it was.
struct MemorySnapshot {
    shared: Arc<Shared>,
    at: Sequence,
}

impl KvRead for MemorySnapshot {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.shared.tables.read().get(column, key, self.at))
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        Ok(self.shared.tables.read().scan(column, range, direction, limit, self.at))
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut snapshots = self.shared.snapshots.lock();
        if let Some(count) = snapshots.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                snapshots.remove(&self.at);
            }
        }
    }
}

impl Tables {
    fn get(&self, column: Column, key: &[u8], at: Sequence) -> Option<Bytes> {
        visible(self.columns.get(column.name())?.get(key)?, at)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        at: Sequence,
    ) -> Vec<Entry> {
        let Some(table) = self.columns.get(column.name()) else { return Vec::new() };
        let Some(rows) = rows(table, range) else { return Vec::new() };
        let entry = |(key, versions): (&Bytes, &Versions)| {
            visible(versions, at).map(|value| (key.clone(), value))
        };
        match direction {
            Direction::Forward => rows.filter_map(entry).take(limit).collect(),
            Direction::Reverse => rows.rev().filter_map(entry).take(limit).collect(),
        }
    }

    fn apply(&mut self, batch: Batch, oldest: Option<Sequence>) {
        let now = self.last + 1;
        self.last = now;
        for operation in batch.into_operations() {
            match operation {
                Operation::Put { column, key, value } => {
                    let table = self.columns.entry(column.name()).or_default();
                    set(table, key, now, Some(value), oldest);
                }
                Operation::Delete { column, key } => {
                    let table = self.columns.entry(column.name()).or_default();
                    set(table, key, now, None, oldest);
                }
                Operation::DeleteRange { column, start, end } => {
                    let table = self.columns.entry(column.name()).or_default();
                    let range = KeyRange::new(start, end);
                    let keys: Vec<Bytes> =
                        rows(table, &range).into_iter().flatten().map(|(k, _)| k.clone()).collect();
                    for key in keys {
                        set(table, key, now, None, oldest);
                    }
                }
            }
        }
    }
}

/// The rows of a range; `None` where it is empty, which `BTreeMap::range` does not accept.
fn rows<'a>(table: &'a Table, range: &KeyRange) -> Option<Range<'a, Bytes, Versions>> {
    if range.is_empty() {
        return None;
    }
    let start = range.start.clone().map_or(Bound::Unbounded, Bound::Included);
    let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
    Some(table.range((start, end)))
}

fn visible(versions: &Versions, at: Sequence) -> Option<Bytes> {
    versions.iter().rev().find(|(sequence, _)| *sequence <= at)?.1.clone()
}

/// Adds a version and drops those that no snapshot from `oldest` on can see.
fn set(
    table: &mut Table,
    key: Bytes,
    now: Sequence,
    value: Option<Bytes>,
    oldest: Option<Sequence>,
) {
    let versions = table.entry(key.clone()).or_default();
    versions.retain(|(sequence, _)| *sequence != now);
    let keep_from = oldest.map_or(versions.len(), |oldest| {
        versions.iter().rposition(|(sequence, _)| *sequence <= oldest).unwrap_or(0)
    });
    versions.drain(..keep_from);
    if value.is_none() && versions.is_empty() {
        table.remove(&key);
        return;
    }
    versions.push((now, value));
}
