//! The store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{ColumnFamily, DB, DBRawIterator, Options, ReadOptions, WriteBatch, WriteOptions};
use weft_ledger::kv::{
    Batch, Column, Direction, Durability, Entry, KeyRange, Kv, KvError, KvRead, Operation,
};

use crate::options::{Absent, RocksOptions};
use crate::snapshot::RocksSnapshot;
use crate::synced::Synced;
use crate::{error, folder};

/// A database in a folder.
pub struct RocksKv {
    database: Arc<Database>,
    /// How far it is synced.
    synced: Synced,
    /// Why nothing more is written, once a write has failed.
    stopped: RwLock<Option<String>>,
}

impl RocksKv {
    /// Opens the database in the folder `path`, or makes it where there is no folder or an empty
    /// one, with these columns. Columns that are new are added; those that are stored but not
    /// named are kept.
    ///
    /// # Errors
    /// Fails where another process has it open, the folder cannot be used, or what is stored is
    /// damaged. See the crate's page on what a crash leaves.
    pub fn open(
        path: impl AsRef<Path>,
        columns: &[Column],
        options: RocksOptions,
    ) -> Result<Arc<Self>, KvError> {
        Self::open_marked(path, columns, options, |_| Ok(()))
    }

    /// As [`Self::open`]. In a folder that is made, `mark` puts what tells it apart, before the
    /// folder has its name.
    ///
    /// # Errors
    /// As [`Self::open`], and where `mark` fails.
    pub fn open_marked(
        path: impl AsRef<Path>,
        columns: &[Column],
        options: RocksOptions,
        mark: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Arc<Self>, KvError> {
        let path = path.as_ref();
        if folder::is_absent(path)? {
            folder::make(path, |beside| {
                make(beside, columns, &options)?;
                mark(beside).map_err(|source| error::folder(beside, source))
            })?;
        }
        let stored = folder::stored_columns(path)?;
        folder::check_logs(path)?;
        let mut families = options.columns(columns);
        for name in stored {
            if !columns.iter().any(|column| column.name() == name) {
                families.push(rocksdb::ColumnFamilyDescriptor::new(name, Options::default()));
            }
        }
        // Read first: an open database has written to its folder.
        let record = Synced::open(path).map_err(|source| error::record(path, source))?;
        let db = DB::open_cf_descriptors(&options.database(Absent::Refuse), path, families)
            .map_err(|source| error::open(path, source))?;
        let synced = check_synced(path, &db, record)?;
        let database = Arc::new(Database { db });
        Ok(Arc::new(Self { database, synced, stopped: RwLock::new(None) }))
    }

    fn check_running(&self) -> Result<(), KvError> {
        match self.stopped.read().clone() {
            Some(reason) => Err(KvError::Stopped { reason }),
            None => Ok(()),
        }
    }

    fn stop(&self, reason: String, failure: KvError) -> KvError {
        *self.stopped.write() = Some(reason);
        failure
    }

    /// Writes and, where asked for, syncs. Every operation of a batch takes one sequence number,
    /// and numbers are given in the order of the log: those up to the one before the write and as
    /// many as it has operations are in the log that it has synced, whoever else writes.
    fn write_batch(&self, batch: WriteBatch, durability: Durability) -> Result<(), KvError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        let sequence = self.database.db.latest_sequence_number() + batch.len() as u64;
        self.database
            .db
            .write_opt(batch, &options)
            .map_err(|failure| self.stop(failure.to_string(), error::write(failure)))?;
        if durability == Durability::Synced {
            self.synced
                .advance(sequence)
                .map_err(|failure| self.stop(failure.to_string(), error::advance(failure)))?;
        }
        Ok(())
    }
}

/// Marks, in a database, that it has a record of what was synced.
const HAS_RECORD: &[u8] = b"weft/synced";

/// Makes a database in a folder that is not there yet.
fn make(path: &Path, columns: &[Column], options: &RocksOptions) -> Result<(), KvError> {
    let database = options.database(Absent::Make);
    let db = DB::open_cf_descriptors(&database, path, options.columns(columns))
        .map_err(|source| error::open(path, source))?;
    begin_record(path, &db)
}

/// A database that is being made, or one of an earlier version, gets its record and then its mark.
fn begin_record(path: &Path, db: &DB) -> Result<(), KvError> {
    Synced::create(path, db.latest_sequence_number())
        .map_err(|source| error::record(path, source))?;
    mark(db)
}

/// From now on a database without a record is damaged.
fn mark(db: &DB) -> Result<(), KvError> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.put_opt(HAS_RECORD, [], &options).map_err(error::write)
}

/// Compares what recovery has found with what is known to have been synced.
fn check_synced(path: &Path, db: &DB, record: Option<Synced>) -> Result<Synced, KvError> {
    let marked = db.get(HAS_RECORD).map_err(|source| error::open(path, source))?.is_some();
    let store = path.display();
    let record = match record {
        Some(record) => record,
        None if marked => {
            let what = format!("{store} has lost {}: its end cannot be known", crate::synced::NAME);
            return Err(KvError::Corrupt { what });
        }
        None => {
            begin_record(path, db)?;
            let made = Synced::open(path).map_err(|source| error::record(path, source))?;
            let gone = || error::record(path, std::io::ErrorKind::NotFound.into());
            return made.ok_or_else(gone);
        }
    };
    let (found, synced) = (db.latest_sequence_number(), record.sequence());
    if found < synced {
        let what = format!(
            "{store}: the write-ahead log ends at write {found}, but writes up to {synced} were \
             synced; restore the folder from a backup, or remove it and join the channel again"
        );
        return Err(KvError::Corrupt { what });
    }
    if !marked {
        mark(db)?;
    }
    Ok(record)
}

impl Kv for RocksKv {
    fn snapshot(&self) -> Arc<dyn KvRead> {
        Arc::new(RocksSnapshot::take(Arc::clone(&self.database)))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let batch = self.database.batch(&batch)?;
        self.check_running()?;
        self.write_batch(batch, durability)
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
