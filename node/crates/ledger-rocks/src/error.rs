//! RocksDB's errors as the ledger's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{Error, ErrorKind};
use weft_ledger::kv::{Column, KvError};

/// How RocksDB words the device's refusal.
const NO_SPACE: &str = "No space left";

/// How RocksDB words a lock that is held.
const LOCK: &str = "lock";

pub(crate) fn open(path: &Path, error: Error) -> KvError {
    let store = path.display().to_string();
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt { what: format!("{store}: {error}") },
        _ if error.as_ref().contains(NO_SPACE) => KvError::Full { source: Arc::new(error) },
        ErrorKind::IOError if is_lock(&error) => KvError::Locked { store, source: Arc::new(error) },
        _ => KvError::Open { store, source: Arc::new(error) },
    }
}

/// A folder that cannot be used.
pub(crate) fn folder(path: &Path, error: io::Error) -> KvError {
    match error.kind() {
        io::ErrorKind::StorageFull => KvError::Full { source: Arc::new(error) },
        _ => KvError::Open { store: path.display().to_string(), source: Arc::new(error) },
    }
}

/// The record of what was synced, at opening.
pub(crate) fn record(path: &Path, error: io::Error) -> KvError {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            KvError::Corrupt { what: format!("{}: {error}", path.display()) }
        }
        _ => folder(path, error),
    }
}

/// The record of what was synced, after a write.
pub(crate) fn advance(error: io::Error) -> KvError {
    KvError::Write { source: Arc::new(error) }
}

pub(crate) fn read(column: Column, error: Error) -> KvError {
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt { what: format!("column {column}: {error}") },
        _ => KvError::Read { column, source: Arc::new(error) },
    }
}

pub(crate) fn write(error: Error) -> KvError {
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt { what: error.to_string() },
        _ if error.as_ref().contains(NO_SPACE) => KvError::Full { source: Arc::new(error) },
        _ => KvError::Write { source: Arc::new(error) },
    }
}

fn is_lock(error: &Error) -> bool {
    error.as_ref().to_ascii_lowercase().contains(LOCK)
}
