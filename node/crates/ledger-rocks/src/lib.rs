//! The ledger's key-value store on RocksDB: one database a ledger, one column family a column.
//!
//! **What a crash leaves.** Every batch is one record of the write-ahead log, so it is there
//! whole or not at all. A record that was cut short at the end of the log (the process or the
//! machine stopped while it was written) is dropped and the store opens with what was before
//! it. A record that is there in full but not intact is damage, not a crash: the store refuses
//! to open, because dropping it would drop acknowledged blocks with it. This is RocksDB's
//! recovery mode "tolerate corrupted tail records"; "point in time" would silently go back to
//! the last intact record. A log that is gone is noticed too: a closed one by its entry in the
//! manifest, and it is noticed when there is none at all. Not noticed is that somebody removed
//! just the newest of several logs.
//!
//! **After a failed write** the store is stopped: what is on disk is unknown then, so nothing
//! more is acknowledged until it is opened again.
//!
//! **Memory.** The defaults suit a node of which many are idle; see [`RocksOptions`].

mod error;
mod options;
mod snapshot;
mod store;

pub use options::RocksOptions;
pub use store::RocksKv;
