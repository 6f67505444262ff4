//! Read-write sets: what a transaction read and wrote, built as endorsers sign them and parsed as
//! validators check them (Fabric: core/ledger/kvledger/txmgmt/rwsetutil).

mod builder;
mod results;
mod set;

pub use builder::{BuiltRwSet, RwSetBuilder};
pub use results::{DegreeError, MAX_DEGREE, RangeReads, RangeResults};
pub use set::{
    CollectionRwSet, NsRwSet, RwSetError, TxRwSet, is_delete, is_hash_delete, private_writes,
};
