//! A store of an earlier version, which lacks columns, opens and gets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tempfile::TempDir;
use weft_ledger::kv::column::{
    EXPIRY, MISSING_PRIVATE, PEER_COLUMNS, PRIVATE_DATA, PRIVATE_STATE, PURGED, STATE,
};
use weft_ledger::kv::{Batch, Column, Direction, Durability, KeyRange, Kv, KvRead};
use weft_ledger_rocks::{RocksKv, RocksOptions};

/// What came with private data collections.
const NEW: [Column; 4] = [PRIVATE_DATA, MISSING_PRIVATE, PURGED, EXPIRY];

#[test]
fn columns_that_are_new_are_added() {
    let dir = TempDir::new().unwrap();
    let before: Vec<Column> =
        PEER_COLUMNS.iter().copied().filter(|column| !NEW.contains(column)).collect();
    assert_eq!(before.len() + NEW.len(), PEER_COLUMNS.len());
    let kv = RocksKv::open(dir.path(), &before, RocksOptions::default()).unwrap();
    assert!(kv.get(PRIVATE_DATA, b"k").is_err(), "the earlier version does not have it");
    let mut batch = Batch::new();
    batch.put(STATE, "k", "public");
    batch.put(PRIVATE_STATE, "k", "private");
    kv.write(batch, Durability::Synced).unwrap();
    drop(kv);

    let kv = RocksKv::open(dir.path(), PEER_COLUMNS, RocksOptions::default()).unwrap();
    assert_eq!(kv.get(STATE, b"k").unwrap().unwrap(), "public");
    assert_eq!(kv.get(PRIVATE_STATE, b"k").unwrap().unwrap(), "private");
    let mut batch = Batch::new();
    for column in NEW {
        assert!(kv.scan(column, &KeyRange::all(), Direction::Forward, 1).unwrap().is_empty());
        batch.put(column, "k", column.name());
    }
    kv.write(batch, Durability::Synced).unwrap();
    drop(kv);

    let kv = RocksKv::open(dir.path(), PEER_COLUMNS, RocksOptions::default()).unwrap();
    for column in NEW {
        assert_eq!(kv.get(column, b"k").unwrap().unwrap(), column.name());
    }
}

/// A store that knows nothing of how far it was synced, as earlier versions left it: it opens with
/// all it has, and from then on a loss is told.
#[test]
fn a_store_without_a_record_gets_one() {
    let dir = TempDir::new().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = rocksdb::DB::open_cf(&options, dir.path(), ["default", STATE.name()]).unwrap();
    let mut synced = rocksdb::WriteOptions::default();
    synced.set_sync(true);
    db.put_cf_opt(db.cf_handle(STATE.name()).unwrap(), "k", "old", &synced).unwrap();
    drop(db);
    for _ in 0..2 {
        let kv = RocksKv::open(dir.path(), &[STATE], RocksOptions::default()).unwrap();
        assert_eq!(kv.get(STATE, b"k").unwrap().unwrap(), "old");
    }
    let kv = RocksKv::open(dir.path(), &[STATE], RocksOptions::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(STATE, "k", "new");
    kv.write(batch, Durability::Synced).unwrap();
    drop(kv);
    std::fs::remove_file(dir.path().join("SYNCED")).unwrap();
    let error = RocksKv::open(dir.path(), &[STATE], RocksOptions::default()).err().unwrap();
    assert!(error.is_corruption(), "{error}");
}
