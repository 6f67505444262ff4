//! The ledger as values over a key-value store: blocks, state, history, validation.

#![deny(rustdoc::broken_intra_doc_links)]

pub mod block_store;
mod cursor;
pub mod history;
pub mod kv;
pub mod ledger;
pub mod mvcc;
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
