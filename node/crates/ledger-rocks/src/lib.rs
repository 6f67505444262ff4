//! The ledger's key-value store on RocksDB: one database a ledger, one column family a column.
//!
//! **What a crash leaves.** Every batch is one record of the write-ahead log, so it is there
//! whole or not at all. A record that was cut short at the end of the log (the process or the
//! machine stopped while it was written) is dropped and the store opens with what was before
//! it. A record that is there in full but not intact is damage, not a crash: the store refuses
//! to open, because dropping it would drop acknowledged blocks with it. This is RocksDB's
//! recovery mode "tolerate corrupted tail records"; "point in time" would silently go back to
//! the last intact record.
//!
//! **What is noticed.** A log whose end was lost: of a closed log by what the next one and the
//! manifest say of it, of the newest one by the record in `SYNCED` (`synced.rs`), which also states exactly
//! what is promised. So a log, manifest or table that is gone is noticed, too. A folder without
//! `CURRENT` that holds anything is damaged; a new database is made beside its place and named
//! when it is complete, so that no crash leaves such a folder.
//!
//! **After a failed write** the store is stopped: what is on disk is unknown then, so nothing
//! more is acknowledged until it is opened again.
//!
//! **Memory.** The defaults suit a node of which many are idle; see [`RocksOptions`].

mod error;
mod folder;
mod options;
mod snapshot;
mod store;
mod synced;
mod wal;

pub use options::RocksOptions;
pub use store::RocksKv;
