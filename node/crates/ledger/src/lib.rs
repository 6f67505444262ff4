//! The ledger as values over a key-value store: blocks, state, history, validation.

pub mod block_store;
pub mod kv;
pub mod rwset;
pub mod state;
pub mod updates;
mod version;

pub use block_store::{BlockAppend, BlockStore, BlockStoreError, Tip, TransactionLocation};
pub use updates::UpdateBatch;
pub use version::Version;
