//! The store.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{ColumnFamily, DB, DBRawIterator, Options, ReadOptions, WriteBatch, WriteOptions};
use weft_ledger::kv::{
    Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead, Operation,
};

use crate::error;
use crate::options::RocksOptions;
use crate::snapshot::RocksSnapshot;

/// A database in a folder.
pub struct RocksKv {
    database: Arc<Database>,
    /// Why nothing more is written, once a write has failed.
    stopped: RwLock<Option<String>>,
}

impl RocksKv {
    /// Opens the database in the folder `path`, or makes it, with these columns. Columns that
    /// are new are added; those that are stored but not named are kept.
    ///
    /// # Errors
    /// Fails where another process has it open, the folder cannot be used, or what is stored is
    /// damaged. See the crate's page on what a crash leaves.
    pub fn open(
        path: impl AsRef<Path>,
        columns: &[Column],
        options: RocksOptions,
    ) -> Result<Arc<Self>, KvError> {
        let path = path.as_ref();
        let database = options.database();
        let stored = stored_columns(&database, path);
        check_log(path, &stored)?;
        let mut families = options.columns(columns);
        for name in stored {
            if !columns.iter().any(|column| column.name() == name) {
                families.push(rocksdb::ColumnFamilyDescriptor::new(name, Options::default()));
            }
        }
        let db = DB::open_cf_descriptors(&database, path, families)
            .map_err(|source| error::open(path, source))?;
        Ok(Arc::new(Self { database: Arc::new(Database { db }), stopped: RwLock::new(None) }))
    }

    fn check_running(&self) -> Result<(), KvError> {
        match self.stopped.read().clone() {
            Some(reason) => Err(KvError::Stopped { reason }),
            None => Ok(()),
        }
    }
}

/// The columns of an existing database; none where there is no database yet, which opening it
/// then decides.
fn stored_columns(options: &Options, path: &Path) -> Vec<String> {
    DB::list_cf(options, path).unwrap_or_default()
}

/// A database always has a log, be it empty. RocksDB would make a new one in silence, and with it
/// forget what was only in the old one. Without columns the database was never finished making.
fn check_log(path: &Path, stored: &[String]) -> Result<(), KvError> {
    if stored.iter().all(|name| name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME) {
        return Ok(());
    }
    let store = || path.display().to_string();
    let failed = |error| KvError::Open { store: store(), source: Arc::new(error) };
    for entry in std::fs::read_dir(path).map_err(failed)? {
        if entry.map_err(failed)?.path().extension().is_some_and(|end| end == "log") {
            return Ok(());
        }
    }
    Err(KvError::Corrupt { what: format!("{} has no write-ahead log", store()) })
}

impl Kv for RocksKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        Arc::new(RocksSnapshot::take(Arc::clone(&self.database)))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let batch = self.database.batch(&batch)?;
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.check_running()?;
        self.database.db.write_opt(batch, &options).map_err(|failure| {
            *self.stopped.write() = Some(failure.to_string());
            error::write(failure)
        })
    }
}

impl KvRead for RocksKv {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.database.get(column, key, &ReadOptions::default())
    }

    fn multi_get(&self, column: Column, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        self.database.multi_get(column, keys, &ReadOptions::default())
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, KvError> {
        self.database.scan(column, range, direction, limit, ReadOptions::default())
    }
}

/// The open database, which snapshots keep open.
pub(crate) struct Database {
    pub(crate) db: DB,
}

impl Database {
    fn family(&self, column: Column) -> Result<&ColumnFamily, KvError> {
        self.db.cf_handle(column.name()).ok_or(KvError::UnknownColumn { column })
    }

    fn batch(&self, batch: &Batch) -> Result<WriteBatch, KvError> {
        let mut writes = WriteBatch::default();
        for operation in batch.operations() {
            match operation {
                Operation::Put { column, key, value } => {
                    writes.put_cf(self.family(*column)?, key, value);
                }
                Operation::Delete { column, key } => {
                    writes.delete_cf(self.family(*column)?, key);
                }
                Operation::DeleteRange { column, start, end } => {
                    writes.delete_range_cf(self.family(*column)?, start, end);
                }
            }
        }
        Ok(writes)
    }

    pub(crate) fn get(
        &self,
        column: Column,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, KvError> {
        let found = self.db.get_pinned_cf_opt(self.family(column)?, key, options);
        let found = found.map_err(|failure| error::read(column, failure))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn multi_get(
        &self,
        column: Column,
        keys: &[&[u8]],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Bytes>>, KvError> {
        let family = self.family(column)?;
        let found = self.db.batched_multi_get_cf_opt(family, keys.iter().copied(), false, options);
        let value = |found: Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>| {
            let found = found.map_err(|failure| error::read(column, failure))?;
            Ok(found.map(|value| Bytes::copy_from_slice(&value)))
        };
        found.into_iter().map(value).collect()
    }

    pub(crate) fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        limit: usize,
        mut options: ReadOptions,
    ) -> Result<Vec<Entry>, KvError> {
        let family = self.family(column)?;
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        if let Some(start) = &range.start {
            options.set_iterate_lower_bound(start.as_ref());
        }
        if let Some(end) = &range.end {
            options.set_iterate_upper_bound(end.as_ref());
        }
        let rows = self.db.raw_iterator_cf_opt(family, options);
        collect(rows, direction, limit).map_err(|failure| error::read(column, failure))
    }
}

fn collect(
    mut rows: DBRawIterator<'_>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Entry>, rocksdb::Error> {
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Reverse => rows.seek_to_last(),
    }
    let mut entries = Vec::new();
    while let Some((key, value)) = rows.item() {
        entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if entries.len() >= limit {
            return Ok(entries);
        }
        match direction {
            Direction::Forward => rows.next(),
            Direction::Reverse => rows.prev(),
        }
    }
    // An iterator also ends at an error.
    rows.status()?;
    Ok(entries)
}
