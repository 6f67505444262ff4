//! The ledger as values over a key-value store.
//!
//! What is here:
//! - [`kv`]: the store's trait, its columns, a store in memory and the suite for all stores;
//! - [`block_store`]: the chain of blocks and its indexes, shared by orderers and peers;
//! - [`state`]: the value, version and metadata of every key, as stored and as it will be;
//! - [`simulator`]: running a transaction's reads and writes, recorded as a [`rwset`];
//! - [`mvcc`]: which of a block's transactions are valid, and the [`updates`] they make;
//! - [`private`]: how private writes, what is missing of them and what ends lie in the store;
//! - [`history`]: who wrote a key, and what;
//! - [`ledger`]: a peer's ledger of one channel, all of the above in one store.
//!
//! What must stay true:
//! - A block and everything that follows from it is one write. There are no two stores to bring
//!   into step after a crash, and nothing is replayed at a start.
//! - Validation is a function of the block and the state before it. It may run ahead of the
//!   writes, on [`state::OverlayState`].
//! - Codes, updates and commit hashes are Fabric's, byte for byte, so that its peers and these
//!   can serve one channel. How keys lie in the store is not Fabric's and is nobody's business
//!   but this crate's.
//!
//! What is left to others: signatures and endorsement policies (they come in as validation
//! codes), the names of collections, and how a peer gets private data.

#![deny(rustdoc::broken_intra_doc_links)]

pub mod block_store;
mod cursor;
pub mod history;
pub mod kv;
pub mod ledger;
pub mod mvcc;
pub mod private;
pub mod rwset;
pub mod simulator;
pub mod state;
pub mod updates;
mod version;

pub use block_store::{BlockAppend, BlockStore, BlockStoreError, Tip, TransactionLocation};
pub use cursor::CursorId;
pub use ledger::{CommitInput, Committed, Ledger, LedgerError};
pub use simulator::{SimulationError, SimulationResults, Simulator};
pub use updates::UpdateBatch;
pub use version::Version;
